"""The works that a report may cite."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Citation:
    """A work to cite.

    Attributes:
        label: Short form for the text.
        url: Where it is found.
        bibtex: The BibTeX entry.
    """

    label: str
    url: str
    bibtex: str


def _article(key: str, label: str, *, url: str, **fields: str) -> tuple[str, Citation]:
    lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    return key, Citation(label, url, f"@article{{{key},\n{lines},\n  url = {{{url}}}\n}}")


CITATIONS = dict(
    (
        _article(
            "reents2026",
            "Reents et al. 2026",
            url="https://arxiv.org/abs/2601.01959",
            author="Reents, Timo and Cantarella, Arianna and Bercx, Marnik and Bonf{\\`a}, Pietro "
            "and Pizzi, Giovanni",
            title="Score-based diffusion models for accurate crystal-structure inpainting and "
            "reconstruction of hydrogen positions",
            journal="arXiv:2601.01959",
            year="2026",
        ),
        _article(
            "song2021",
            "Song et al. 2021",
            url="https://arxiv.org/abs/2011.13456",
            author="Song, Yang and Sohl-Dickstein, Jascha and Kingma, Diederik P. and Kumar, "
            "Abhishek and Ermon, Stefano and Poole, Ben",
            title="Score-Based Generative Modeling through Stochastic Differential Equations",
            journal="International Conference on Learning Representations",
            year="2021",
        ),
        _article(
            "schutt2021",
            "Schütt et al. 2021",
            url="https://arxiv.org/abs/2102.03150",
            author='Sch{\\"u}tt, Kristof T. and Unke, Oliver T. and Gastegger, Michael',
            title="Equivariant message passing for the prediction of tensorial properties and "
            "molecular spectra",
            journal="Proceedings of Machine Learning Research",
            volume="139",
            pages="9377--9388",
            year="2021",
        ),
        _article(
            "mayet2024",
            "Mayet et al. 2024",
            url="https://arxiv.org/abs/2410.09306",
            author="Mayet, Tsiry and Shamsolmoali, Pourya and Bernard, Simon and Granger, Eric "
            "and Herault, Romain and Chatelain, Clement",
            title="TD-Paint: Faster Diffusion Inpainting Through Time-aware Pixel Conditioning",
            journal="arXiv:2410.09306",
            year="2024",
        ),
        _article(
            "lugmayr2022",
            "Lugmayr et al. 2022",
            url="https://arxiv.org/abs/2201.09865",
            author="Lugmayr, Andreas and Danelljan, Martin and Romero, Andres and Yu, Fisher and "
            "Timofte, Radu and Van Gool, Luc",
            title="RePaint: Inpainting using Denoising Diffusion Probabilistic Models",
            journal="IEEE/CVF Conference on Computer Vision and Pattern Recognition",
            pages="11461--11471",
            year="2022",
        ),
        _article(
            "zeni2025",
            "Zeni et al. 2025",
            url="https://doi.org/10.1038/s41586-025-08628-5",
            author='Zeni, Claudio and Pinsler, Robert and Z{\\"u}gner, Daniel and Fowler, Andrew '
            "and Horton, Matthew and others",
            title="A generative model for inorganic materials design",
            journal="Nature",
            volume="639",
            pages="624--632",
            year="2025",
        ),
        _article(
            "gasteiger2021",
            "Gasteiger et al. 2021",
            url="https://arxiv.org/abs/2106.08903",
            author='Gasteiger, Johannes and Becker, Florian and G{\\"u}nnemann, Stephan',
            title="GemNet: Universal Directional Graph Neural Networks for Molecules",
            journal="Advances in Neural Information Processing Systems",
            volume="34",
            pages="6790--6802",
            year="2021",
        ),
        _article(
            "batzner2022",
            "Batzner et al. 2022",
            url="https://doi.org/10.1038/s41467-022-29939-5",
            author="Batzner, Simon and Musaelian, Albert and Sun, Lixin and Geiger, Mario and "
            "Mailoa, Jonathan P. and Kornbluth, Mordechai and Molinari, Nicola and Smidt, Tess E. "
            "and Kozinsky, Boris",
            title="E(3)-equivariant graph neural networks for data-efficient and accurate "
            "interatomic potentials",
            journal="Nature Communications",
            volume="13",
            pages="2453",
            year="2022",
        ),
        _article(
            "park2024",
            "Park et al. 2024",
            url="https://doi.org/10.1021/acs.jctc.4c00190",
            author="Park, Yutack and Kim, Jaesun and Hwang, Seungwoo and Han, Seungwu",
            title="Scalable Parallel Algorithm for Graph Neural Network Interatomic Potentials in "
            "Molecular Dynamics Simulations",
            journal="Journal of Chemical Theory and Computation",
            volume="20",
            pages="4857--4868",
            year="2024",
        ),
        _article(
            "bitzek2006",
            "Bitzek et al. 2006",
            url="https://doi.org/10.1103/PhysRevLett.97.170201",
            author='Bitzek, Erik and Koskinen, Pekka and G{\\"a}hler, Franz and Moseler, Michael '
            "and Gumbsch, Peter",
            title="Structural Relaxation Made Simple",
            journal="Physical Review Letters",
            volume="97",
            pages="170201",
            year="2006",
        ),
        _article(
            "ong2013",
            "Ong et al. 2013",
            url="https://doi.org/10.1016/j.commatsci.2012.10.028",
            author="Ong, Shyue Ping and Richards, William Davidson and Jain, Anubhav and Hautier, "
            "Geoffroy and Kocher, Michael and Cholia, Shreyas and Gunter, Dan and Chevrier, "
            "Vincent L. and Persson, Kristin A. and Ceder, Gerbrand",
            title="Python Materials Genomics (pymatgen): A robust, open-source python library for "
            "materials analysis",
            journal="Computational Materials Science",
            volume="68",
            pages="314--319",
            year="2013",
        ),
        _article(
            "wojdyr2022",
            "Wojdyr 2022",
            url="https://doi.org/10.21105/joss.04200",
            author="Wojdyr, Marcin",
            title="GEMMI: A library for structural biology",
            journal="Journal of Open Source Software",
            volume="7",
            pages="4200",
            year="2022",
        ),
        _article(
            "larsen2017",
            "Larsen et al. 2017",
            url="https://doi.org/10.1088/1361-648X/aa680e",
            author="Larsen, Ask Hjorth and Mortensen, Jens J{\\o}rgen and Blomqvist, Jakob and "
            "others",
            title="The atomic simulation environment---a Python library for working with atoms",
            journal="Journal of Physics: Condensed Matter",
            volume="29",
            pages="273002",
            year="2017",
        ),
        _article(
            "ditommaso2017",
            "Di Tommaso et al. 2017",
            url="https://doi.org/10.1038/nbt.3820",
            author="Di Tommaso, Paolo and Chatzou, Maria and Floden, Evan W. and Barja, Pablo "
            "Prieto and Palumbo, Emilio and Notredame, Cedric",
            title="Nextflow enables reproducible computational workflows",
            journal="Nature Biotechnology",
            volume="35",
            pages="316--319",
            year="2017",
        ),
        _article(
            "kahle2018",
            "Kahle et al. 2018",
            url="https://doi.org/10.1103/PhysRevMaterials.2.065405",
            author="Kahle, Leonid and Marcolongo, Aris and Marzari, Nicola",
            title="Modeling lithium-ion solid-state electrolytes with a pinball model",
            journal="Physical Review Materials",
            volume="2",
            pages="065405",
            year="2018",
        ),
        _article(
            "vanderwalt2014",
            "van der Walt et al. 2014",
            url="https://doi.org/10.7717/peerj.453",
            author="van der Walt, St{\\'e}fan and Sch{\\\"o}nberger, Johannes L. and "
            "Nunez-Iglesias, Juan and Boulogne, Fran{\\c{c}}ois and Warner, Joshua D. and "
            "Yager, Neil and Gouillart, Emmanuelle and Yu, Tony",
            title="scikit-image: image processing in Python",
            journal="PeerJ",
            volume="2",
            pages="e453",
            year="2014",
        ),
        _article(
            "giannozzi2009",
            "Giannozzi et al. 2009",
            url="https://doi.org/10.1088/0953-8984/21/39/395502",
            author="Giannozzi, Paolo and Baroni, Stefano and Bonini, Nicola and Calandra, Matteo "
            "and Car, Roberto and others",
            title="QUANTUM ESPRESSO: a modular and open-source software project for quantum "
            "simulations of materials",
            journal="Journal of Physics: Condensed Matter",
            volume="21",
            pages="395502",
            year="2009",
        ),
        _article(
            "giannozzi2017",
            "Giannozzi et al. 2017",
            url="https://doi.org/10.1088/1361-648X/aa8f79",
            author="Giannozzi, Paolo and Andreussi, Oliviero and Brumme, Thomas and Bunau, Oana "
            "and Buongiorno Nardelli, Marco and others",
            title="Advanced capabilities for materials modelling with Quantum ESPRESSO",
            journal="Journal of Physics: Condensed Matter",
            volume="29",
            pages="465901",
            year="2017",
        ),
        _article(
            "prandini2018",
            "Prandini et al. 2018",
            url="https://doi.org/10.1038/s41524-018-0127-2",
            author="Prandini, Gianluca and Marrazzo, Antimo and Castelli, Ivano E. and Mounet, "
            "Nicolas and Marzari, Nicola",
            title="Precision and efficiency in solid-state pseudopotential calculations",
            journal="npj Computational Materials",
            volume="4",
            pages="72",
            year="2018",
        ),
        _article(
            "nascimento2025",
            "Nascimento et al. 2025",
            url="https://arxiv.org/abs/2504.03962",
            author="Nascimento, Gabriel de Miranda and dos Santos, Flaviano Jos{\\'e} and Bercx, "
            "Marnik and Grassano, Davide and Pizzi, Giovanni and Marzari, Nicola",
            title="Accurate and efficient protocols for high-throughput first-principles materials "
            "simulations",
            journal="arXiv:2504.03962",
            year="2025",
        ),
        _article(
            "togo2024",
            "Togo et al. 2024",
            url="https://doi.org/10.1080/27660400.2024.2384822",
            author="Togo, Atsushi and Shinohara, Kohei and Tanaka, Isao",
            title="Spglib: a software library for crystal symmetry search",
            journal="Science and Technology of Advanced Materials: Methods",
            volume="4",
            pages="2384822",
            year="2024",
        ),
        _article(
            "perdew1996",
            "Perdew et al. 1996",
            url="https://doi.org/10.1103/PhysRevLett.77.3865",
            author="Perdew, John P. and Burke, Kieron and Ernzerhof, Matthias",
            title="Generalized Gradient Approximation Made Simple",
            journal="Physical Review Letters",
            volume="77",
            pages="3865--3868",
            year="1996",
        ),
        _article(
            "efron1979",
            "Efron 1979",
            url="https://doi.org/10.1214/aos/1176344552",
            author="Efron, Bradley",
            title="Bootstrap Methods: Another Look at the Jackknife",
            journal="The Annals of Statistics",
            volume="7",
            pages="1--26",
            year="1979",
        ),
        _article(
            "mcnemar1947",
            "McNemar 1947",
            url="https://doi.org/10.1007/BF02295996",
            author="McNemar, Quinn",
            title="Note on the sampling error of the difference between correlated proportions or "
            "percentages",
            journal="Psychometrika",
            volume="12",
            pages="153--157",
            year="1947",
        ),
    )
)
