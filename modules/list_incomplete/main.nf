// LIST_INCOMPLETE: writes the tables of a database that JUDGE has judged.

process LIST_INCOMPLETE {
    label 'process_single'

    input:
    path order
    path judged, stageAs: 'judged/*'
    val source // the input as given, for messages
    val code   // digest of the code; part of the hash

    output:
    path '*.csv', emit: tables
    path 'hosts', emit: hosts, optional: true // none where each structure to fill has a file of its own
    path 'scan.json', emit: findings

    script:
    """
    cat > source.txt <<'END_OF_SOURCE'
    ${source}
    END_OF_SOURCE
    list_incomplete.py --parts ${order} --judged judged --input source.txt --outdir .
    """

    stub:
    """
    touch scan.csv hosts.csv
    echo '{"counts": {}, "n_uncounted": 0}' > scan.json
    """
}
