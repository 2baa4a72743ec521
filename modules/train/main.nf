// TRAIN: trains a score model. Stopped by its time limit or killed, it goes on from its checkpoint when Nextflow starts it
// again. That lies in `folder`, not in the work folder: a later run with more steps goes on from it, too.

process TRAIN {
    tag "${settings.train_method}"
    label 'process_gpu'

    input:
    path data, stageAs: 'data/*'
    path start, stageAs: 'start/*' // [] for random weights
    path scale_file
    path folder
    val settings // [train_method:, train_steps:, train_width:, train_learning_rate:, train_crystals:, train_atoms:,
                 // train_draw_processes:, train_mixed_precision:, device:, seed:]
    val code // digest of the code; part of the hash

    output:
    path "weights/${settings.train_method}.pt", emit: weights
    path "weights/${settings.train_method}.log.csv", emit: log
    path "weights/${settings.train_method}.png", emit: picture

    script:
    def begin = start ? "--start ${start}" : ''
    def size = settings.train_atoms ? "--atoms ${settings.train_atoms}" : "--crystals ${settings.train_crystals}"
    def restart = task.time ? "--max_seconds ${task.time.toSeconds()}" : ''
    def precision = settings.train_mixed_precision ? '--mixed_precision' : ''
    """
    train.py \\
        --method ${settings.train_method} \\
        --data ${data} \\
        ${begin} \\
        --scale_file ${scale_file} \\
        --folder ${folder} \\
        --steps ${settings.train_steps} \\
        --width ${settings.train_width} \\
        --learning_rate ${settings.train_learning_rate} \\
        ${size} \\
        --draw_processes ${settings.train_draw_processes} \\
        --threads ${settings.device == 'cuda' ? 1 : task.cpus} \\
        --device ${settings.device} \\
        ${precision} \\
        ${restart} \\
        --seed ${settings.seed}
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
