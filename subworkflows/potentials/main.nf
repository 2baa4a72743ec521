// POTENTIALS: the model files of --mlip and --mlip_rank, downloaded and, on request, compiled.

include { FETCH_POTENTIAL   } from '../../modules/fetch_potential/main'
include { COMPILE_POTENTIAL } from '../../modules/compile_potential/main'

workflow POTENTIALS {
    take:
    run // Run: parameters, files, digests of the code

    main:
    FETCH_POTENTIAL(channel.fromList(run.potentials.published()), run.code('fetch_potential.py'))

    // e.g. [[id: 'mlip'], /models/small.nequip.zip]; [] stands for a potential that is no file
    ch_models = channel.fromList(run.potentials.files())
        .mix(FETCH_POTENTIAL.out.model)
        .branch { _meta, model ->
            packaged: run.settings.mlip_compile && model && model.name.endsWith('.nequip.zip')
            ready: true
        }

    COMPILE_POTENTIAL(ch_models.packaged, run.forStage('compile_potential'), run.code('compile_potential.py'))

    ch_ready = ch_models.ready.mix(COMPILE_POTENTIAL.out.model)

    emit:
    mlip      = ch_ready.filter { meta, _model -> meta.id == 'mlip' }.map { _meta, model -> model }.first()
    mlip_rank = ch_ready.filter { meta, _model -> meta.id == 'mlip_rank' }.map { _meta, model -> model }.first()
    compiled  = COMPILE_POTENTIAL.out.record
    record    = FETCH_POTENTIAL.out.record.mix(COMPILE_POTENTIAL.out.record)
}
