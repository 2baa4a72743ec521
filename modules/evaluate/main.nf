// EVALUATE: compares every candidate with the true structure, where one is given.

process EVALUATE {
    tag "${meta.id}"
    label 'process_single'
    cache 'deep' // the content of the batch counts, not its date

    input:
    tuple val(meta), path(batch, stageAs: 'input/*')
    path phases, stageAs: 'phases/*' // table of competing phases; [] without one
    val code                         // digest of the code; part of the hash

    output:
    tuple val(meta), path("${meta.id}.h5"), emit: batch
    path "evaluate_${meta.id}.json", emit: record

    script:
    """
    evaluate.py --batch ${batch} ${phases ? "--phases ${phases}" : ''} \\
        --output ${meta.id}.h5 --record evaluate_${meta.id}.json
    """

    stub:
    """
    touch ${meta.id}.h5
    echo '{}' > evaluate_${meta.id}.json
    """
}
