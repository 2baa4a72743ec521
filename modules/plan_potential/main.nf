// PLAN_POTENTIAL: a job for each host of the method potential; checks the pseudopotentials, refuses
// what cannot be calculated, estimates the cost.

process PLAN_POTENTIAL {
    label 'process_single'

    input:
    path batches, stageAs: 'batches/*'
    path protocol, stageAs: 'protocol/*'
    path table, stageAs: 'table/*'
    path cost, stageAs: 'cost/*'
    path pseudo_dir, stageAs: 'pseudo_dir' // [] for those of the image
    val settings                           // parameters of the stage
    val code                               // digest of the code; part of the hash

    output:
    path 'jobs/*.json', emit: jobs, optional: true
    path 'plan.json', emit: plan
    path 'plan_potential.json', emit: record

    script:
    """
    cat > settings.json <<'END_OF_JSON'
    ${Parameters.json(settings)}
    END_OF_JSON
    plan_potential.py \\
        --settings settings.json \\
        --batches batches/*.h5 \\
        --protocol ${protocol} \\
        --table ${table} \\
        --cost ${cost} \\
        --pseudo_dir ${pseudo_dir ?: Validation.PSEUDOS_OF_DEBIAN} \\
        --outdir . \\
        --record plan_potential.json
    """

    stub:
    """
    mkdir jobs
    touch jobs/batch_0000.0.json jobs/batch_0000.1.json
    cat > plan.json <<'END_OF_JSON'
    {"jobs": {"batch_0000.0": {"size": 10.0, "core_hours": 1.0}, "batch_0000.1": {"size": 100.0, "core_hours": 10.0}}}
    END_OF_JSON
    echo '{}' > plan_potential.json
    """
}
