// POTENTIALS: the model files behind --mlip and --mlip_rank, downloaded and compiled where that was asked for.

include { FETCH_POTENTIAL   } from '../../modules/fetch_potential/main'
include { COMPILE_POTENTIAL } from '../../modules/compile_potential/main'

workflow POTENTIALS {
    take:
    parameters // of the run
    folder     // of the bundled models
    code       // [fetch:, compile:], digests of the code

    main:
    def settings = parameters.values()
    FETCH_POTENTIAL(channel.fromList(Potentials.published(settings)), code.fetch)

    // e.g. [[id: 'mlip'], /models/small.nequip.zip]; [] stands for a potential that is no file
    ch_models = channel.fromList(Potentials.files(settings, folder))
        .mix(FETCH_POTENTIAL.out.model)
        .branch { _meta, model ->
            packaged: settings.mlip_compile && model && model.name.endsWith('.nequip.zip')
            ready: true
        }

    COMPILE_POTENTIAL(ch_models.packaged, parameters.forStage('compile_potential'), code.compile)

    ch_ready = ch_models.ready.mix(COMPILE_POTENTIAL.out.model)

    emit:
    mlip      = ch_ready.filter { meta, _model -> meta.id == 'mlip' }.map { _meta, model -> model }.first()
    mlip_rank = ch_ready.filter { meta, _model -> meta.id == 'mlip_rank' }.map { _meta, model -> model }.first()
    compiled  = COMPILE_POTENTIAL.out.record
    record    = FETCH_POTENTIAL.out.record.mix(COMPILE_POTENTIAL.out.record)
}
