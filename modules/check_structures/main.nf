// CHECK: reads every structure, refuses what cannot be used and says why, writes the batches.

process CHECK {
    tag "${input.fileName.name}"
    label 'process_single'

    input:
    path input, stageAs: 'input/*'
    path references, stageAs: 'references/*'     // [] without references
    path named_files, stageAs: 'named_files/?/*' // what a sheet or folder names: for the hash and for containers
    path phases, stageAs: 'phases/*'             // table of competing phases, refused here if it is bad; [] without one
    val database                                 // results database, recipe and --redo (JSON); [] without one
    val settings                                 // parameters of the stage; a model file with its whole path
    val code                                     // digest of the code; part of the hash

    output:
    path 'batches/*.h5', emit: batches, optional: true // none where the database has all structures
    path 'parts/*.json', emit: parts, optional: true
    path 'check.json', emit: check

    script:
    """
    cat > settings.json <<'END_OF_JSON'
    ${Parameters.json(settings)}
    END_OF_JSON
    ${database ? "cat > database.json <<'END_OF_JSON'\n    ${database}\n    END_OF_JSON" : ''}
    check_structures.py \\
        --settings settings.json ${database ? '--database database.json' : ''} \\
        --input ${input} \\
        ${references ? "--references ${references}" : ''} ${phases ? "--phases ${phases}" : ''} || {
        status=\$?
        # Where every structure was refused, COLLECT does not run.
        if [ \$status -eq 65 ] && [ -s check.json ]; then collect.py --check check.json --outdir . || true; fi
        exit \$status
    }
    """

    stub:
    """
    mkdir batches
    touch batches/batch_0000.h5 batches/batch_0001.h5
    ${database ? 'mkdir parts; touch parts/batch_0000.json parts/batch_0001.json parts/refused.json' : ''}
    cat > check.json <<'END_OF_JSON'
    {"structures": [{"id": "a", "n_atoms": 100, "volume": 1000.0, "reference": null, "batch": "batch_0000.h5"}],
     "failures": [], "parameters": {"methods": ["host"], "samples": 100}}
    END_OF_JSON
    """
}
