// INPAINT: proposes the missing sites of every candidate; the host does not change.
// A task that reaches its time limit or is killed continues from its checkpoint in the next attempt.

process INPAINT {
    tag "${meta.id}"
    label 'process_gpu'
    cache 'deep' // the content of the batch counts, not its date

    input:
    tuple val(meta), path(batch, stageAs: 'input/*')
    path bundled, stageAs: 'bundled/*' // weights that come with xtalfill, named after their kind
    path model, stageAs: 'model?/*' // weights of the user, or nothing
    val settings // parameters of the stage
    val code // digest of the code; part of the hash

    output:
    tuple val(meta), path("${meta.id}.h5"), emit: batch
    path "inpaint_${meta.id}.json", emit: record

    script:
    def restart = [
        task.time ? "--max_seconds ${task.time.toSeconds()}" : '',
        task.previousTrace?.workDir ? "--previous '${task.previousTrace.workDir}/checkpoint'" : '',
    ].findAll().join(' ')
    def given = model ? "--model ${model}" : ''
    """
    cat > settings.json <<'END_OF_JSON'
    ${Parameters.json(settings)}
    END_OF_JSON
    inpaint.py \\
        --settings settings.json \\
        --batch ${batch} \\
        --bundled ${bundled} \\
        ${given} \\
        ${restart} \\
        --checkpoint checkpoint \\
        --output ${meta.id}.h5 \\
        --record inpaint_${meta.id}.json
    """

    stub:
    """
    touch ${meta.id}.h5
    echo '{}' > inpaint_${meta.id}.json
    """
}
