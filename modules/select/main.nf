// SELECT: ranks the candidates of each structure by energy and numbers their distinct minima.

process SELECT {
    tag "${meta.id}"
    label 'process_single'
    cache 'deep' // the content of the batch counts, not its date

    input:
    tuple val(meta), path(batch, stageAs: 'input/*')
    val code // digest of the code; part of the hash

    output:
    tuple val(meta), path("${meta.id}.h5"), emit: batch
    path "select_${meta.id}.json", emit: record

    script:
    """
    select_candidates.py --batch ${batch} --output ${meta.id}.h5 --record select_${meta.id}.json
    """

    stub:
    """
    touch ${meta.id}.h5
    echo '{}' > select_${meta.id}.json
    """
}
