"""The private doors of Keras and TensorFlow: all that the package uses and neither promises.

A door is a name with a leading underscore, a module that is no part of the public interface, a
function that is replaced for a time, or the words of an error. For each there is a test that fails
when it closes.
"""

import ast
import re
from pathlib import Path

import pytest

import keras_mgs

TESTS = Path(__file__).parent
PACKAGE = Path(keras_mgs.__file__).parent
RECORDING, HOOKS, KERNEL = "sites/test_recording.py", "test_hooks.py", "test_kernel.py"
EVERY_READ = f"{RECORDING}::test_every_way_of_reading_a_weight_outside_its_layer_is_noticed"
FAST = "sites/test_fallback.py::test_structures_that_the_rules_explain_stay_fast"
NO_CUDNN = f"{HOOKS}::test_passes_do_without_kernels_that_have_no_second_derivative"
IN_THREADS = f"{HOOKS}::test_other_threads_see_tensorflow_as_it_is_during_a_pass"
JACOBIAN = f"{KERNEL}::test_jacobian_equals_tape_jacobian_and_finite_differences"
WRAPPED = "test_wrapped.py::test_without_a_penalty_all_is_as_the_model_does_it_alone"
LOOP = "model/test_training_step.py::test_training_equals_a_plain_loop_weight_for_weight"
EXECUTED = "model/test_compile.py::test_steps_executed_in_every_way_are_those_of_a_plain_loop"
INLINED = "test_second_order.py::test_a_function_runs_as_part_of_the_pass_with_autograph_or_without"
NO_SHAPES = "test_penalties.py::test_under_xla_no_shape_passes_through_a_function"
EXPLAINED = "test_explain.py::test_models_that_know_their_inputs_need_no_data"

DOORS = {
    # Keras: attributes
    "_embeddings": "sites/test_embedding.py::test_j_of_an_embedding_counts_its_indices",
    "_flatten_layers": JACOBIAN,
    "_functional": EXPLAINED,
    "_inputs_struct": EXPLAINED,
    "_kernel": "sites/test_dense.py::test_j_of_one_dense_layer_is_its_input",
    "_keras_history": "test_inputs.py::test_functions_equal_brute_force",
    "_keras_logits": "test_outputs.py::test_eager_training_undoes_it_too_or_says_that_it_cannot",
    "_loss_tracker": LOOP,
    "_maybe_autocast": EVERY_READ,
    "_trainable_variables": FAST,
    "_value": "sites/test_fallback.py::test_what_no_rule_explains_is_announced",
    # Keras: modules
    "startswith('keras.')": WRAPPED,
    "sys.modules[keras.layers.ConvLSTM1D.__base__.__module__]": "sites/test_recurrent.py::"
    "test_a_convolutional_cell_has_its_rule",
    "sys.modules[keras.layers.LSTM.__module__]": NO_CUDNN,
    # Keras: what an instance reads through itself, so that a double of it may answer
    "with_attributes(bases)": WRAPPED,
    "with_attributes(compiled)": WRAPPED,
    "with_attributes(noting)": JACOBIAN,
    "with_attributes(unroll)": "test_explain.py::"
    "test_steps_of_a_recurrent_layer_count_as_positions",
    # Keras: who calls, as nothing else tells a callback of the others
    "inspect.currentframe": "test_callbacks.py::test_a_callback_that_misses_the_metrics_is_named",
    # Keras: functions that are replaced
    "replaced(_RECURRENT, 'gru')": NO_CUDNN,
    "replaced(_RECURRENT, 'lstm')": NO_CUDNN,
    "replaced(kind, 'call')": "test_second_order.py::"
    "test_statistics_with_a_wrong_second_derivative_are_refused",
    "replaced(layer, 'call')": FAST,
    "replaced(weight, '_maybe_autocast')": EVERY_READ,
    # TensorFlow
    "_autograph": INLINED,
    "_get_function": "test_outputs.py::test_an_exported_model_that_ends_in_a_softmax_is_warned_of",
    "_noinline": EXECUTED,
    "tf.__internal__": INLINED,
    "tf.compat.v1": FAST,
    "experimental_enable_variable_lifting": EXECUTED,
    "startswith('tensorflow.')": "test_second_order.py::"
    "test_functions_of_tensorflow_s_own_stay_functions",
    "_is_under_xla_context": "sites/test_fallback.py::"
    "test_exact_penalties_of_such_layers_have_the_gradient_of_the_plain_loop",
    "replaced(_VECTORISING, '_is_under_xla_context')": NO_SHAPES,
    "sys.modules[tf.vectorized_map.__module__]": NO_SHAPES,
    "replaced(function, '__call__')": IN_THREADS,
    "replaced(tf.nn, 'moments')": "test_penalties.py::"
    "test_gradient_of_the_trace_is_right_through_layers_of_every_family",
    "words: 'no entry for: '": "test_derivatives.py::"
    "test_what_has_no_second_derivative_is_an_error_that_names_it_before_the_first_step",
    "words: 'pyfunc_'": "test_inputs.py::test_python_code_after_weights_is_an_error_that_says_so",
    "words: 'support'": "sites/test_convolution.py::"
    "test_dilated_transposed_convolution_equals_one_with_zeros_in_its_kernel",
}


def trees():
    return {path: ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def defined(tree):
    """The names that a file gives to something."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.attr if isinstance(node, ast.Attribute) else node.id
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).split(".")[0]


def doors(tree, ours):
    """The private doors that a file uses, in the words of `DOORS`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _is_private(node.attr) and node.attr not in ours:
            yield node.attr
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in PRIVATE_NAMES:
            yield ast.unparse(node)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(a.name for a in node.names)]
            yield from (n for n in names if re.match(r"keras\.src|tensorflow\.", n))
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "sys.modules":
            yield ast.unparse(node)
        elif isinstance(node, ast.Compare) and ast.unparse(node.comparators[0]) == "error.message":
            yield f"words: {ast.unparse(node.left)}"
        elif isinstance(node, ast.Call):
            yield from _doors_of_call(node)
        keys = []
        if isinstance(node, ast.Dict):
            keys = node.keys
        elif isinstance(node, ast.Subscript):
            keys = [node.slice]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
            keys = node.args[1:2]
        for key in keys:
            if isinstance(key, ast.Constant) and _is_private(str(key.value)):
                yield key.value


PRIVATE_NAMES = {"inspect.currentframe", "tf.__internal__", "tf.compat.v1"}


def _doors_of_call(node):
    name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    if name == "replaced":
        yield f"replaced({', '.join(ast.unparse(a) for a in node.args[:2])})"
    elif name == "with_attributes":
        yield from (f"with_attributes({k.arg or ast.unparse(k.value)})" for k in node.keywords)
    elif name == "startswith" and re.match(r"'(keras|tensorflow)\.", ast.unparse(node.args[0])):
        yield f"startswith({ast.unparse(node.args[0])})"
    elif name == "findall" and "str(error)" in ast.unparse(node):
        yield f"words: {ast.unparse(node.args[0]).split('(')[0]}'"


def _is_private(name):
    return re.fullmatch(r"_[a-z]\w*[a-z]|experimental_\w+", name) is not None


def test_every_private_door_that_the_package_uses_is_listed_and_no_other():
    files = trees()
    ours = {"_fields", "_replace"}.union(*(defined(tree) for tree in files.values()))
    found = {}
    for path, tree in files.items():
        for door in doors(tree, ours):
            found.setdefault(door, set()).add(path.relative_to(PACKAGE).as_posix())
    assert found.keys() - DOORS.keys() == set(), f"not listed: {found}"
    assert DOORS.keys() - found.keys() == set(), "listed, and used no more"


@pytest.mark.parametrize("test", sorted(set(DOORS.values())))
def test_the_test_of_a_door_exists(test):
    file, name = test.split("::")
    tree = ast.parse((TESTS / file).read_text("utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
