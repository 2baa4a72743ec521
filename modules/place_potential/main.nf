// PLACE_POTENTIAL: fills one host at the maxima of the electrostatic potential that its missing electrons make:
// pw.x and pp.x, place, relax what was placed, repeat. Stopped by its time limit or for lack of memory, it goes on from
// its checkpoint when Nextflow starts it again.

process PLACE_POTENTIAL {
    tag "${meta.id}"
    label 'process_dft'
    cache 'deep' // by what a job says, not when PLAN_POTENTIAL wrote it

    input:
    tuple val(meta), path(job, stageAs: 'job/*')
    path protocol, stageAs: 'protocol/*'
    path table, stageAs: 'table/*'
    path pseudo_dir, stageAs: 'pseudo_dir' // [] for those of the image
    path mlip_file, stageAs: 'mlip/*'      // [] where settings.mlip is a name
    val settings                           // [baseline_*:, mlip:, sites_fmax:, sites_max_steps:, dft_launcher:, dft_scratch:]
    val code                               // digest of the code; part of the hash

    output:
    tuple val(meta), path("${meta.id}.json"), emit: result
    path "${meta.id}", emit: files
    path "place_potential_${meta.id}.json", emit: record

    script:
    def options = [
        settings.dft_scratch ? "--scratch '${settings.dft_scratch}'" : '',
        task.time ? "--max_seconds ${task.time.toSeconds()}" : '',
        task.attempt >= task.ext.attempts ? '--last_chance' : '',
        task.previousTrace?.workDir ? "--previous '${task.previousTrace.workDir}/checkpoint'" : '',
    ].findAll().join(' ')
    """
    place_potential.py \\
        --job ${job} \\
        --protocol ${protocol} \\
        --table ${table} \\
        --pseudo_dir ${pseudo_dir ?: Validation.PSEUDOS_OF_DEBIAN} \\
        --degauss ${settings.baseline_degauss} \\
        --degenerate ${settings.baseline_degenerate} \\
        --bond ${settings.baseline_bond} \\
        --apart ${settings.baseline_apart} \\
        --charge ${settings.baseline_charge} \\
        --choices ${settings.baseline_choices} \\
        --relax ${settings.baseline_relax} \\
        --mlip ${mlip_file ?: settings.mlip} \\
        --fmax ${settings.sites_fmax} \\
        --max_steps ${settings.sites_max_steps} \\
        --cores ${task.cpus} \\
        --launcher '${settings.dft_launcher}' \\
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
