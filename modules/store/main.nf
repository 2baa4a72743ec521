// STORE: writes the structures of one batch into the results database, at once when the batch is done.

process STORE {
    tag "${meta.id}"
    label 'process_single'

    input:
    tuple val(meta), path(check), path(batch) // [id: 'batch_0007']; batch is [] for the refused structures
    val run                                   // database and recipe: JSON on one line
    val since                                 // of REGISTER: another database gets everything again
    val code                                  // digest of the code; part of the hash

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
