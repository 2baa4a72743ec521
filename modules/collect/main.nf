// COLLECT: writes the tables and structure files of the whole run.

process COLLECT {
    label 'process_single'

    input:
    path check
    path batches, stageAs: 'batches/*'
    val code // digest of the code; part of the hash

    output:
    path '*.csv', emit: tables
    path '*.extxyz', emit: frames
    path 'structures', emit: structures
    path 'evaluation.json', emit: evaluation

    script:
    """
    collect.py --check ${check} --batches ${batches ? 'batches/*.h5' : ''} --outdir .
    """

    stub:
    """
    mkdir structures
    touch results.csv candidates.csv failures.csv selected.extxyz candidates.extxyz
    echo '{}' > evaluation.json
    """
}
