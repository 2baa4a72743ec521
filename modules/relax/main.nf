// RELAX: relaxes the filled sites in the fixed host, then all positions, in the fixed cell; then
// continues with the second potential, if one is given.
// A task that reaches its time limit or is killed continues from its checkpoint in the next attempt.

process RELAX {
    tag "${meta.id}"
    label 'process_gpu'
    cache 'deep' // the content of the batch counts, not its date

    input:
    tuple val(meta), path(batch, stageAs: 'input/*')
    path mlip_file, stageAs: 'mlip/*'           // [] where settings.mlip is a name
    path mlip_rank_file, stageAs: 'mlip_rank/*' // [] where settings.mlip_rank is a name or null
    val settings                                // parameters of the stage
    val code                                    // digest of the code; part of the hash

    output:
    tuple val(meta), path("${meta.id}.h5"), emit: batch
    path "relax_${meta.id}.json", emit: record

    script:
    def restart = [
        task.time ? "--max_seconds ${task.time.toSeconds()}" : '',
        task.previousTrace?.workDir ? "--previous '${task.previousTrace.workDir}/checkpoint'" : '',
    ].findAll().join(' ')
    def models = [
        mlip_file ? "--mlip_file ${mlip_file}" : '',
        mlip_rank_file ? "--mlip_rank_file ${mlip_rank_file}" : '',
    ].findAll().join(' ')
    """
    export OMP_NUM_THREADS=${task.cpus} MKL_NUM_THREADS=${task.cpus}
    cat > settings.json <<'END_OF_JSON'
    ${Parameters.json(settings)}
    END_OF_JSON
    relax.py \\
        --settings settings.json \\
        --batch ${batch} \\
        ${models} \\
        --threads ${task.cpus} \\
        ${restart} \\
        --checkpoint checkpoint \\
        --output ${meta.id}.h5 \\
        --record relax_${meta.id}.json
    """

    stub:
    """
    touch ${meta.id}.h5
    echo '{}' > relax_${meta.id}.json
    """
}
