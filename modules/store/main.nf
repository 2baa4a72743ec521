// STORE: writes the structures of one batch into the results database, at once when the batch is done.

process STORE {
    tag "${meta.id}"
    label 'process_single'
    cache false // a database that is not the one of the last run gets everything again

    input:
    tuple val(meta), path(check), path(batch) // [id: 'batch_0007']; batch is [] for the refused structures
    val run                                   // database, recipe, parameters and versions: JSON on one line

    output:
    val meta, emit: stored

    script:
    """
    cat > run.json <<'END_OF_JSON'
    ${run}
    END_OF_JSON
    store.py --check ${check} ${batch ? "--batch ${batch}" : ''} --run run.json
    """

    stub:
    """
    touch stored
    """
}
