// PLAN_POTENTIAL: a job for each host that the method potential fills; checks the pseudopotentials.

process PLAN_POTENTIAL {
    tag "${meta.id}"
    label 'process_single'

    input:
    tuple val(meta), path(batch, stageAs: 'input/*')
    path table, stageAs: 'table/*'
    path pseudo_dir, stageAs: 'pseudo_dir' // [] for those of the image
    val code                               // digest of the code; part of the hash

    output:
    path 'jobs/*.json', emit: jobs, optional: true
    path "plan_potential_${meta.id}.json", emit: record

    script:
    """
    plan_potential.py \\
        --batch ${batch} \\
        --table ${table} \\
        --pseudo_dir ${pseudo_dir ?: Validation.PSEUDOS_OF_DEBIAN} \\
        --outdir jobs \\
        --record plan_potential_${meta.id}.json
    """

    stub:
    """
    mkdir jobs
    touch jobs/${meta.id}.0.json
    echo '{}' > plan_potential_${meta.id}.json
    """
}
