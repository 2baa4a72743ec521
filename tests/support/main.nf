// For the suites of the modules: a batch of two crystals as an early stage would leave it, without running that stage.

process MADE_BATCH {
    input:
    tuple val(meta), val(last) // the last stage in the batch

    output:
    tuple val(meta), path("${meta.id}.h5"), emit: batch
    path 'check.json', emit: check

    script:
    """
    export PYTHONPATH='${projectDir}/bin:${projectDir}/tests/python'
    python '${projectDir}/tests/support/make_batch.py' ${last} ${meta.id}.h5
    """
}
