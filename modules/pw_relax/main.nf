// PW_RELAX: relaxes one crystal with pw.x in its fixed cell; corrects the errors that it can.
// A task that reaches its time or memory limit continues from its checkpoint in the next attempt.

process PW_RELAX {
    tag "${meta.id}"
    label 'process_dft'
    cache 'deep' // the content of the job counts, not its date

    input:
    tuple val(meta), path(job, stageAs: 'job/*')
    path pseudo_dir, stageAs: 'pseudo_dir' // [] for those of the image
    val settings                           // parameters of the stage
    val code                               // digest of the code; part of the hash

    output:
    tuple val(meta), path("${meta.id}.json"), emit: result
    path "${meta.id}", emit: files
    path "pw_relax_${meta.id}.json", emit: record

    script:
    def options = [
        task.time ? "--max_seconds ${task.time.toSeconds()}" : '',
        task.attempt >= task.ext.attempts ? '--last_chance' : '',
        task.previousTrace?.workDir ? "--previous '${task.previousTrace.workDir}/checkpoint'" : '',
    ].findAll().join(' ')
    """
    cat > settings.json <<'END_OF_JSON'
    ${Parameters.json(settings)}
    END_OF_JSON
    pw_relax.py \\
        --settings settings.json \\
        --job ${job} \\
        --pseudo_dir ${pseudo_dir ?: Validation.PSEUDOS_OF_DEBIAN} \\
        --cores ${task.cpus} \\
        ${options} \\
        --checkpoint checkpoint \\
        --kept ${meta.id} \\
        --output ${meta.id}.json \\
        --record pw_relax_${meta.id}.json
    """

    stub:
    """
    mkdir ${meta.id}
    echo '{}' > ${meta.id}.json
    echo '{}' > pw_relax_${meta.id}.json
    """
}
