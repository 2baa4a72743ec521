// PLACE_POTENTIAL: fills one host at the maxima of the electrostatic potential of its missing
// electrons: runs pw.x and pp.x, places atoms, relaxes them, and repeats.
// A task that reaches its time or memory limit continues from its checkpoint in the next attempt.

process PLACE_POTENTIAL {
    tag "${meta.id}"
    label 'process_dft'
    cache 'deep' // the content of the job counts, not its date

    input:
    tuple val(meta), path(job, stageAs: 'job/*')
    path protocol, stageAs: 'protocol/*'
    path table, stageAs: 'table/*'
    path pseudo_dir, stageAs: 'pseudo_dir' // [] for those of the image
    path mlip_file, stageAs: 'mlip/*'      // [] where settings.mlip is a name
    val settings                           // parameters of the stage
    val code                               // digest of the code; part of the hash

    output:
    tuple val(meta), path("${meta.id}.json"), emit: result
    path "${meta.id}", emit: files
    path "place_potential_${meta.id}.json", emit: record

    script:
    def options = [
        mlip_file ? "--mlip_file ${mlip_file}" : '',
        task.time ? "--max_seconds ${task.time.toSeconds()}" : '',
        task.attempt >= task.ext.attempts ? '--last_chance' : '',
        task.previousTrace?.workDir ? "--previous '${task.previousTrace.workDir}/checkpoint'" : '',
    ].findAll().join(' ')
    """
    cat > settings.json <<'END_OF_JSON'
    ${Parameters.json(settings)}
    END_OF_JSON
    place_potential.py \\
        --settings settings.json \\
        --job ${job} \\
        --protocol ${protocol} \\
        --table ${table} \\
        --pseudo_dir ${pseudo_dir ?: Validation.PSEUDOS_OF_DEBIAN} \\
        --cores ${task.cpus} \\
        ${options} \\
        --checkpoint checkpoint \\
        --kept ${meta.id} \\
        --output ${meta.id}.json \\
        --record place_potential_${meta.id}.json
    """

    stub:
    """
    mkdir ${meta.id}
    echo '{}' > ${meta.id}.json
    echo '{}' > place_potential_${meta.id}.json
    """
}
