// JUDGE: judges whether the structures of one part of a database are complete.

process JUDGE {
    tag "${name}"
    label 'process_single'
    cache 'deep' // the content of the part counts, not its date

    input:
    tuple val(name), path(part, stageAs: 'input/*'), path(files, stageAs: 'files/?/*') // those that a part of a tree names, in its order
    val code // digest of the code; part of the hash

    output:
    path "${name}.jsonl", emit: judged

    script:
    """
    judge.py --part ${part} --files files --output ${name}.jsonl
    """

    stub:
    """
    touch ${name}.jsonl
    """
}
