// REGISTER: notes the run in the results database and says since when the database knows it.

process REGISTER {
    tag 'database'
    label 'process_single'
    cache false // asks every time: a lost database does not know the run, and STORE repeats all batches

    input:
    val run // database, parameters and versions: JSON on one line

    output:
    env 'since', emit: since // UTC

    script:
    """
    cat > run.json <<'END_OF_JSON'
    ${run}
    END_OF_JSON
    since=\$(register_run.py --run run.json)
    """

    stub:
    """
    since=2026-01-01T00:00:00.000+00:00
    """
}
