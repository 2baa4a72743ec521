// PW_RELAX: relaxes one crystal with pw.x, its cell fixed; repairs what can be repaired. Stopped by its time limit or
// for lack of memory, it goes on from its checkpoint when Nextflow starts it again.

process PW_RELAX {
    tag "${meta.id}"
    label 'process_dft'
    cache 'deep' // by what a job says, not when PLAN_DFT wrote it: another choice of candidates repeats no calculation

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
