// GATHER_POTENTIAL: puts what was found for the hosts of a batch into the batch.

process GATHER_POTENTIAL {
    tag "${meta.id}"
    label 'process_single'
    cache 'deep' // the content of the batch counts, not its date

    input:
    tuple val(meta), path(batch, stageAs: 'input/*'), path(results, stageAs: 'results/*') // [] where no job was
    path plan
    val code // digest of the code; part of the hash

    output:
    tuple val(meta), path("${meta.id}.h5"), emit: batch
    path "gather_potential_${meta.id}.json", emit: record

    script:
    """
    gather_potential.py \\
        --batch ${batch} \\
        --plan ${plan} \\
        --results ${results} \\
        --output ${meta.id}.h5 \\
        --record gather_potential_${meta.id}.json
    """

    stub:
    """
    touch ${meta.id}.h5
    echo '{}' > gather_potential_${meta.id}.json
    """
}
