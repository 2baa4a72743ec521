// FETCH_POTENTIAL: downloads a model from nequip.net, so that tasks on compute nodes need no network.

process FETCH_POTENTIAL {
    tag "${name}"
    label 'process_single'

    input:
    tuple val(meta), val(name) // [id: 'mlip'], e.g. 'nequip.net:mir-group/NequIP-OAM-L:0.1'
    val code                   // digest of the code; part of the hash

    output:
    tuple val(meta), path('*.nequip.zip'), emit: model
    path "fetch_potential_${meta.id}.json", emit: record

    script:
    """
    fetch_potential.py \\
        --name ${name} \\
        --output ${Potentials.fileName(name)} \\
        --record fetch_potential_${meta.id}.json
    """

    stub:
    """
    touch ${Potentials.fileName(name)}
    echo '{}' > fetch_potential_${meta.id}.json
    """
}
