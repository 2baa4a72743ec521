// FETCH_INPUT: reads the structures of a server, so that tasks on compute nodes need no network.

process FETCH_INPUT {
    tag "${url.replaceAll(/[?].*/, '')}"
    label 'process_single'

    input:
    val url  // OPTIMADE (https://…) or an ASE database in PostgreSQL (postgresql://…)
    val code // digest of the code; part of the hash

    output:
    path '*.jsonl', emit: structures
    path 'fetch_input.json', emit: record

    script:
    """
    cat > url.txt <<'END_OF_URL'
    ${url}
    END_OF_URL
    fetch_input.py --url url.txt --outdir . --record fetch_input.json
    """

    stub:
    """
    touch server.jsonl
    echo '{}' > fetch_input.json
    """
}
