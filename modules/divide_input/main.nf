// DIVIDE_INPUT: writes the structures of a database in parts that JUDGE takes side by side.

process DIVIDE_INPUT {
    tag "${input.fileName.name}"
    label 'process_single'

    input:
    path input, stageAs: 'input/*'
    path named_files, stageAs: 'named_files/?/*' // what a sheet or folder names: for the hash and for containers
    val fetched                                  // whether FETCH_INPUT read the input from a server
    val settings                                 // parameters of the stage
    val code                                     // digest of the code; part of the hash

    output:
    path 'parts/*.jsonl', emit: parts
    path 'parts/*.files', emit: files // what a part of a tree names
    path 'parts.json', emit: order

    script:
    """
    cat > settings.json <<'END_OF_JSON'
    ${Parameters.json(settings)}
    END_OF_JSON
    divide_input.py --settings settings.json --input ${input} ${fetched ? '--fetched' : ''} --outdir .
    """

    stub:
    """
    mkdir parts
    touch parts/part_0000.jsonl parts/part_0001.jsonl parts/part_0000.files parts/part_0001.files
    echo '["part_0000", "part_0001"]' > parts.json
    """
}
