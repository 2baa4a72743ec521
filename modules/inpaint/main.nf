// INPAINT: proposes the missing sites of every candidate, the host's sites untouched.

process INPAINT {
    tag "${meta.id}"
    label 'process_single'

    input:
    tuple val(meta), path(batch, stageAs: 'input/*')
    path model
    val steps
    val code // digest of the code; part of the hash

    output:
    tuple val(meta), path("${meta.id}.h5"), emit: batch
    path "inpaint_${meta.id}.json", emit: record

    script:
    """
    inpaint.py \\
        --batch ${batch} \\
        --model ${model} \\
        --steps ${steps} \\
        --output ${meta.id}.h5 \\
        --record inpaint_${meta.id}.json
    """

    stub:
    """
    touch ${meta.id}.h5
    echo '{}' > inpaint_${meta.id}.json
    """
}
