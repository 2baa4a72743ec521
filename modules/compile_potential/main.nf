// COMPILE_POTENTIAL: compiles a packaged nequip model on the machine type of RELAX; passes the model
// on unchanged if the compilation fails.

process COMPILE_POTENTIAL {
    tag "${meta.id}"
    label 'process_gpu'

    input:
    tuple val(meta), path(model, stageAs: 'input/*') // [id: 'mlip'], .nequip.zip
    val settings                                     // parameters of the stage
    val code                                         // digest of the code; part of the hash

    output:
    tuple val(meta), path('*.nequip.{pt2,zip}'), emit: model
    path "compile_potential_${meta.id}.json", emit: record

    script:
    """
    export OMP_NUM_THREADS=${task.cpus} MKL_NUM_THREADS=${task.cpus}
    cat > settings.json <<'END_OF_JSON'
    ${Parameters.json(settings)}
    END_OF_JSON
    compile_potential.py \\
        --settings settings.json \\
        --model ${model} \\
        --outdir . \\
        --record compile_potential_${meta.id}.json
    """

    stub:
    """
    touch ${meta.id}.nequip.pt2
    echo '{}' > compile_potential_${meta.id}.json
    """
}
