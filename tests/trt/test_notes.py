"""What is noted beside a plan: kept with it, counted from it, and made again when it is lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.trt.helpers import ADA, Told, backend_of, built, fake_of, place_of
from vgg_deploy import jsonio
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.cuda import Gpu
from vgg_deploy.errors import RefusedInput, StaleEngine
from vgg_deploy.manifest import notes_path
from vgg_deploy.pipeline.build import build_bundle
from vgg_deploy.report.engine_tables import computed_in, engine_table
from vgg_deploy.report.tables import artifacts_table
from vgg_deploy.trt import build
from vgg_deploy.trt.layers import EngineNotes, Layer, from_inspector, from_log
from vgg_deploy.trt.notes import product_names, read_notes
from vgg_deploy.trt.options import BuildOptions
from vgg_deploy.trt.profile import Profile


@pytest.mark.parametrize("how", ["missing", "of another plan", "damaged"])
def test_an_engine_without_its_notes_is_built_again(bundle: Bundle, how: str) -> None:
    bundle, engine, _ = built(bundle, fake_of("rtx"))
    path = notes_path(bundle.path(engine))
    good = path.read_text()
    if how == "missing":
        path.unlink()
    else:
        path.write_text(good.replace(engine.sha256, "0" * 64) if how != "damaged" else good[:-9])
    bundle, again, reused = built(bundle, fake_of("rtx"))
    assert not reused
    assert read_notes(bundle, again).sha256 == again.sha256
    assert built(bundle, fake_of("rtx"))[2]


@pytest.mark.parametrize(("name", "words"), [("rtx", "--compute-capability 8.9 "), ("11", "")])
def test_the_command_that_builds_again_names_the_gpu_where_it_can_be_named(
    bundle: Bundle, name: str, words: str
) -> None:
    fake = fake_of(name)
    bundle, engine, _ = built(bundle, fake)
    notes_path(bundle.path(engine)).unlink()
    with pytest.raises(RefusedInput, match="no layers of") as caught:
        read_notes(bundle, engine)
    assert f"--precision fp32 {words}--batch 1:8:64" in caught.value.remedy


def test_for_the_gpu_that_is_here_the_other_one_is_not_named(bundle: Bundle) -> None:
    bundle, engine, _ = built(bundle, fake_of("rtx"))
    elsewhere: Gpu = replace(ADA, name="NVIDIA RTX 5090", compute_capability="12.0")
    with (
        pytest.raises(StaleEngine, match=r"8\.9, here 12\.0") as caught,
        backend_of(fake_of("rtx", elsewhere)).open(engine, bundle.root),
    ):
        pass
    assert "--compute-capability" not in caught.value.remedy


def layer(name: str, kind: str, type_: str, *nodes: str, constants: tuple[str, ...] = ()) -> Layer:
    return Layer(
        name=name,
        kind=kind,
        tactic="",
        inputs=(type_,),
        outputs=("fp16",),
        nodes=nodes,
        constants=constants,
    )


def noted(layers: tuple[Layer, ...], *products: str) -> EngineNotes:
    return EngineNotes(
        sha256="0" * 64,
        made_at="",
        seconds=1.0,
        source="builder log",
        layers=layers,
        warnings=(),
        products=products,
    )


PADDING = layer("__myl_CastConc_myl0_0", "kgen", "fp32", "cast", "conv")
CONV = layer("conv_myl0_1", "correlation", "fp16", "conv", "relu")
FC = layer("__myl_MulSumAddRelu_myl0_2", "kgen", "fp16", "fc")
BIAS = layer("__myl_AddRelu_myl0_3", "kgen", "fp16", "fc")
CASTS = layer("__myl_CastReshMulSum_myl0_4", "kgen", "fp32", "head", constants=("bf16", "bf16"))


def test_a_product_in_a_generated_kernel_counts_and_what_prepares_it_does_not() -> None:
    found = noted((PADDING, CONV, FC, BIAS), "conv", "fc")
    assert found.computed_in() == {"fp16": 2}
    assert computed_in(found) == "2 × fp16"


def test_a_kernel_that_casts_first_computes_in_the_type_of_its_weights() -> None:
    assert noted((CASTS,), "head").computed_in() == {"bf16": 1}
    unknown = noted((CONV, replace(CASTS, constants=())), "conv", "head")
    assert computed_in(unknown) == "1 × fp16, 1 of 2 not told"


def test_products_that_no_layer_tells_of_are_counted_as_such() -> None:
    assert computed_in(noted((CONV, BIAS), "conv", "fc", "head")) == "1 × fp16, 2 of 3 not told"
    assert computed_in(noted((BIAS,), "fc")) == "types not told"


def test_each_profile_is_told_where_they_differ() -> None:
    second = (
        layer("__myl_Move_myl1_0", "kgen", "fp32"),
        layer("conv [profile 1]_myl1_1", "correlation", "int8", "conv", "relu"),
        layer("__myl_FcAddRelu_myl1_2", "runtime_fusion", "fp16", "fc"),
    )
    same = replace(second[1], inputs=("fp16",))
    alike = noted((CONV, FC, second[0], same, second[2]), "conv", "fc")
    assert computed_in(alike) == "2 × fp16", "not once per profile"
    differing = noted((CONV, BIAS, *second), "conv", "fc")
    assert computed_in(differing) == (
        "profile 0: 1 × fp16, 1 of 2 not told; profile 1: 1 × fp16, 1 × int8"
    )


def test_layers_of_the_log_have_the_types_of_their_constants() -> None:
    tensor = "{{ Name: x, Dimensions: [1], Datatype: {}, Format: (Linear) Row major }}"
    (found,) = from_log(
        f"Layers:\nName: __myl_CastMulSum_myl0_0, LayerType: kgen, "
        f"Inputs: [ {tensor.format('Float')}], Constants: [ {tensor.format('BFloat16')}], "
        f"Outputs: [ {tensor.format('Half')}], TacticName: t, StreamId: 0, "
        "Metadata: [ONNX Layer: fc]"
    )
    assert (found.inputs, found.constants, found.outputs) == (("fp32",), ("bf16",), ("fp16",))


def test_layers_of_8_6_are_read_from_its_log_and_from_its_inspector() -> None:
    """As it writes both; the inspector parts ONNX nodes by a character that JSON does not allow."""
    logged = from_log(
        "Engine Layer Information:\n"
        "Layer(Reformat): Reformatting CopyNode for Input Tensor 0 to conv + relu, Tactic: "
        "0x00000000000003e8, input[Float(-2,1,32,32)] -> Reformatted Input[Half(-2,1,32,32)]\n"
        "Layer(CaskConvolution): conv + relu, Tactic: 0x4727434768e46395, "
        "Reformatted Input[Half(-2,1,32,32)] -> (Unnamed Layer* 1) [Activation]_output[Half(8)]\n"
        "Layer(Constant): bias, Tactic: 0x0000000000000000,  -> bias_out[Float(1)]\n"
        "Layer(MatrixMultiply): fc [profile 1], Tactic: 0x01, a[Int8(1,4:4)], b[Int8(4)] -> "
        "logits[Float(-2,10)]"
    )
    assert [one.kind for one in logged] == [
        "Reformat", "CaskConvolution", "Constant", "MatrixMultiply",
    ]  # fmt: skip
    assert (logged[0].inputs, logged[0].outputs) == (("fp32",), ("fp16",))
    assert (logged[2].inputs, logged[2].outputs) == ((), ("fp32",))
    assert logged[3].inputs == ("int8", "int8")
    by_profile = noted(logged, "conv", "fc").computed_by_profile()
    assert by_profile == ({"fp16": 1}, {"int8": 1})
    tensor = '{"Name": "x", "Format/Datatype": "Row major linear FP32"}'
    told = (
        f'{{"Layers": [{{"Name": "conv + relu", "LayerType": "CaskConvolution", "Inputs": '
        f'[{tensor}], "Metadata": "[ONNX Layer: conv]\x1e[ONNX Layer: relu]"}}]}}'
    )
    (inspected,) = from_inspector(told, fake_of("8.6").library().traits)
    assert (inspected.nodes, inspected.inputs) == (("conv", "relu"), ("fp32",))


@pytest.mark.parametrize(
    "told",
    [
        "Datatype: UInt8",
        "Format/Datatype: Row major linear UInt8",
        "Format/Datatype: Channel major UInt8 format where channel % 8 == 0",
    ],
)
def test_a_type_of_the_log_that_is_not_known_stays_its_own_word(told: str) -> None:
    tensor = f"{{ Name: x, Dimensions: [1], {told} }}"
    (found,) = from_log(
        f"Layers:\nName: cast, LayerType: Cast, Inputs: [ {tensor}], Outputs: [ {tensor}], "
        "TacticName: t, StreamId: 0, Metadata: "
    )
    assert (found.inputs, found.outputs) == (("UInt8",), ("UInt8",))


def test_a_type_in_the_log_may_stand_among_words_of_its_format() -> None:
    tensor = "{ Name: x, Dimensions: [1,3], Format/Datatype: Row major linear FP16 }"
    (found,) = from_log(
        f"Layers:\nName: conv, LayerType: CaskConvolution, Inputs: [ {tensor}], Outputs: "
        f"[ {tensor}], ParameterType: Convolution, TacticName: t, TacticValue: 0x1, StreamId: 0, "
        "Metadata: [ONNX Layer: conv]"
    )
    assert (found.inputs, found.outputs) == (("fp16",), ("fp16",))


@pytest.mark.parametrize(
    ("told", "types"),
    [('[{"Name": "w", "Datatype": "Half"}]', ("fp16",)), ('["w"]', ()), ("3", ()), ("null", ())],
)
def test_constants_of_the_inspector_are_taken_where_they_are_tensors(
    told: str, types: tuple[str, ...]
) -> None:
    text = f'{{"Layers": [{{"Name": "fc", "Constants": {told}}}]}}'
    (found,) = from_inspector(text, fake_of("11").library().traits)
    assert found.constants == types


def test_notes_without_products_get_them_from_the_onnx_file(bundle: Bundle) -> None:
    bundle, engine, _ = built(bundle, fake_of("11"))
    onnx = bundle.find("onnx")
    assert onnx is not None
    names = product_names(bundle.path(onnx).read_bytes())
    assert len(names) == bundle.card.spec.weight_layers
    made = read_notes(bundle, engine)
    assert made.products == names
    path = notes_path(bundle.path(engine))
    jsonio.save(path, replace(made, products=()))
    assert read_notes(bundle, engine).products == names
    bundle.path(onnx).write_bytes(b"x")
    assert read_notes(bundle, engine).products == ()


def test_settings_are_shown_and_an_engine_that_replaces_another_says_so(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = fake_of("11")
    monkeypatch.setattr(build, "find_place", lambda _: place_of(fake))
    told = Told()
    first = BuildOptions(profiles=(Profile(1, 4, 16),), workspace=256, optimization_level=1)
    done, _ = build_bundle(bundle, first, watch=told)  # type: ignore[arg-type]
    assert done[0].replaced == ""
    settings = "profile 1:4:16, workspace 256 MiB, optimization-level 1"
    assert done[0].engine is not None
    assert done[0].notes is not None
    assert f"Built with {settings}." in engine_table(done[0].engine, done[0].notes).note
    bundle = open_bundle(bundle.root)
    assert settings in artifacts_table(bundle, None).rows[-1].cells
    done, _ = build_bundle(bundle, BuildOptions(), watch=told)  # type: ignore[arg-type]
    assert done[0].replaced == settings
    assert told.said[-1].endswith(f"replaced the engine with {settings}")
    done, _ = build_bundle(bundle, BuildOptions(), watch=told)  # type: ignore[arg-type]
    assert (done[0].reused, done[0].replaced) == (True, "")


def test_a_bundle_without_engines_has_no_column_for_them(bundle: Bundle) -> None:
    assert "Built with" not in [column.name for column in artifacts_table(bundle, None).columns]
