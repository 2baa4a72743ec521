// TRAIN: trains a score model. A task that reaches its time limit or is killed continues from its
// checkpoint in the next attempt. The checkpoint is in `folder`, not in the work folder: a later run
// with more steps continues from it, too.

process TRAIN {
    tag "${settings.train_method}"
    label 'process_gpu'

    input:
    path data, stageAs: 'data/*'
    path start, stageAs: 'start/*' // [] for random weights
    path scale_file
    path folder
    val settings // parameters of the stage
    val code     // digest of the code; part of the hash

    output:
    path "weights/${settings.train_method}.pt", emit: weights
    path "weights/${settings.train_method}.log.csv", emit: log
    path "weights/${settings.train_method}.png", emit: picture

    script:
    def begin = start ? "--start ${start}" : ''
    // The number of atoms replaces that of crystals.
    def sized = settings.findAll { name, _value -> name != (settings.train_atoms ? 'train_crystals' : 'train_atoms') }
    def options = Parameters.flags(sized, 'train_')
    def restart = task.time ? "--max_seconds ${task.time.toSeconds()}" : ''
    """
    train.py \\
        --data ${data} \\
        ${begin} \\
        --scale_file ${scale_file} \\
        --folder ${folder} \\
        --threads ${settings.device == 'cuda' ? 1 : task.cpus} \\
        ${restart} \\
        ${options}
    mkdir weights
    cp ${folder}/best.pt weights/${settings.train_method}.pt
    cp ${folder}/log.csv weights/${settings.train_method}.log.csv
    cp ${folder}/loss.png weights/${settings.train_method}.png
    """

    stub:
    """
    mkdir weights
    touch weights/${settings.train_method}.{pt,log.csv,png}
    """
}
