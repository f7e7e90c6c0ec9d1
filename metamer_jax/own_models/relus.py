"""ReLUs of any traced function: found, and given another derivative, without touching its code.

A function is traced to a jaxpr, JAX's list of the operations it does, and evaluated from that list
with straight-through ReLUs in place of those that are chosen. A ReLU is recognised by what it
computes and not by its name: `jax.nn.relu`, `jnp.maximum(x, 0)`, `jnp.where(x > 0, x, 0)`,
`jnp.clip(x, 0)` and `x * (x > 0)`, in any module, also inside `jax.jit` and `jax.checkpoint`.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from metamer_jax import gradients
from metamer_jax.own_models import convolutions

# Calls that change nothing about values or derivatives: opened. (Rematerialisation is lost.)
_CALLS = ("jit", "pjit", "closed_call", "core_call", "remat2", "remat", "checkpoint")
# What rearranges an activation and keeps every value once; what leaves its values as they are.
_LOSSLESS = ("copy", "expand_dims", "name", "reshape", "rev", "squeeze", "transpose")
_REARRANGING = (*_LOSSLESS, "broadcast_in_dim", "concatenate", "convert_element_type")
_BRANCHING = {"scan": "jaxpr", "while": "body_jaxpr", "cond": "branches"}


class InnerReluError(ValueError):
    """A ReLU is inside a loop or a branch, where it cannot be overridden."""


class Program(NamedTuple):
    """The operations of a function, from `trace`."""

    closed: ClosedJaxpr  # Without nested calls.
    makers: dict[Any, int]  # Of each variable, which equation makes it.

    @property
    def outputs(self) -> list[Any]:
        """The variables that are the function's result."""
        return self.closed.jaxpr.outvars

    def maker(self, atom: Any) -> Any:
        """The equation that makes a variable; None of constants and inputs."""
        index = None if isinstance(atom, Literal) else self.makers.get(atom)
        return None if index is None else self.closed.jaxpr.eqns[index]

    def position(self, atom: Any) -> int:
        """Where in the processing order a variable is made; -1 of constants and inputs."""
        return -1 if isinstance(atom, Literal) else self.makers.get(atom, -1)


def trace(function: Callable[..., Sequence[jax.Array]], *args: Any) -> Program:
    """Returns the operations of `function(*args)`, those of nested calls among them.

    Args:
        function: Returns a sequence of arrays.
        *args: Pytrees of arrays or `jax.ShapeDtypeStruct`s; may be traced themselves.

    Returns:
        A program whose inputs are the leaves of `args`.
    """
    return _opened(jax.make_jaxpr(function)(*args))


def _opened(closed: ClosedJaxpr) -> Program:
    def run(*values):
        return _evaluate(closed, values, closed.jaxpr.outvars, _open)

    closed = jax.make_jaxpr(run)(*(v.aval for v in closed.jaxpr.invars))
    return Program(closed, {v: i for i, eqn in enumerate(closed.jaxpr.eqns) for v in eqn.outvars})


def find(program: Program) -> list[int]:
    """Returns which equations of a program are ReLUs, in processing order."""
    eqns = program.closed.jaxpr.eqns
    return [i for i, eqn in enumerate(eqns) if _operand(program, eqn) is not None]


def ending(program: Program, variable: Any) -> tuple[int, ...]:
    """Returns the ReLUs whose outputs, rearranged or joined at most, are a variable's values.

    Raises:
        InnerReluError: The ReLU is inside a loop or a branch.
    """
    eqn = program.maker(variable)
    if eqn is None:
        return ()
    if _operand(program, eqn) is not None:
        return (program.makers[variable],)
    if eqn.primitive.name in _BRANCHING:
        _refuse_inner(eqn, eqn.outvars.index(variable))
    if eqn.primitive.name not in _REARRANGING:
        return ()
    found = [ending(program, operand) for operand in eqn.invars]
    return tuple(sorted(set().union(*found))) if all(found) else ()


def bypassed(program: Program, variable: Any, inputs: Sequence[Any], output: Any) -> bool:
    """Whether an output that is made later depends on inputs other than through a variable.

    Args:
        program: From `trace`.
        variable: An output of it or of any of its equations.
        inputs: Inputs of the program.
        output: As `variable`.

    Returns:
        Whether it does, by any way that does not lead through the variable.
    """
    if program.position(output) <= program.position(variable):
        return False
    cut = {variable}
    while (eqn := program.maker(variable)) is not None and eqn.primitive.name in _LOSSLESS:
        (variable,) = eqn.invars
        cut.add(variable)
    reached = set(inputs) - cut
    for eqn in program.closed.jaxpr.eqns:
        if any(not isinstance(atom, Literal) and atom in reached for atom in eqn.invars):
            reached.update(set(eqn.outvars) - cut)
    return output in reached


def _refuse_inner(eqn, position):
    inner = eqn.params[_BRANCHING[eqn.primitive.name]]
    for closed in inner if isinstance(inner, (tuple, list)) else (inner,):
        program = _opened(closed)
        if ending(program, program.outputs[position]):
            raise InnerReluError(
                f"the activation ends in a ReLU inside a lax.{eqn.primitive.name}, which cannot be "
                "overridden: relu_override=False matches this stage with ordinary gradients"
            )


def evaluate(
    program: Program,
    args: Sequence[jax.Array],
    variables: Sequence[Any],
    overridden: Collection[int] = (),
) -> list[jax.Array]:
    """Computes variables of a program, and nothing that they do not need.

    Args:
        program: From `trace`.
        args: Its inputs.
        variables: Outputs of it or of any of its equations.
        overridden: ReLUs, of `find`, that pass every gradient back.

    Returns:
        The variables' values, in order.
    """
    eqns = program.closed.jaxpr.eqns
    operands = {id(eqns[i]): _operand(program, eqns[i]) for i in overridden}

    def instead(eqn, read):
        if id(eqn) in operands:
            out = gradients.relu_straight_through(read(operands[id(eqn)]))
            return [out.astype(eqn.outvars[0].aval.dtype)]
        return _quicker(eqn, read)

    return _evaluate(program.closed, args, variables, instead)


def _quicker(eqn, read):
    """Computes a convolution or a pooling as a CPU does faster; None of other equations."""
    function = convolutions.instead(eqn) if jax.default_backend() == "cpu" else None
    if function is None:
        return None
    with eqn.ctx.manager:
        return [function(*(read(atom) for atom in eqn.invars))]


def _open(eqn, read):
    """What a call computes, by evaluating what is in it; None of other equations."""
    if eqn.primitive.name not in _CALLS:
        return None
    inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
    inner = inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())
    return _evaluate(inner, [read(atom) for atom in eqn.invars], inner.jaxpr.outvars, _open)


def _evaluate(closed, args, variables, otherwise):
    """Evaluates a jaxpr; `otherwise(equation, read)` may say what an equation gives instead."""
    jaxpr = closed.jaxpr
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*closed.consts, *args), strict=True))

    def read(atom):
        return atom.val if isinstance(atom, Literal) else values[atom]

    for eqn in _needed(jaxpr, variables):
        out = otherwise(eqn, read)
        if out is None:
            operands = [read(atom) for atom in eqn.invars]
            with eqn.ctx.manager:
                out = eqn.primitive.bind(*operands, **eqn.primitive.get_bind_params(eqn.params))
            out = out if eqn.primitive.multiple_results else [out]
        values.update(zip(eqn.outvars, out, strict=True))
    return [read(variable) for variable in variables]


def _needed(jaxpr, variables):
    wanted = {v for v in variables if not isinstance(v, Literal)}
    needed = []
    for eqn in reversed(jaxpr.eqns):
        if not wanted.isdisjoint(eqn.outvars):
            needed.append(eqn)
            wanted.update(atom for atom in eqn.invars if not isinstance(atom, Literal))
    return needed[::-1]


def _operand(program: Program, eqn: Any) -> Any:
    """Returns the variable of which an equation is the ReLU, or None where it is none."""
    name = eqn.primitive.name
    found = None
    if name == "custom_jvp_call" and len(eqn.invars) == 1:
        inner = _opened(eqn.params["call_jaxpr"])
        last = inner.maker(inner.outputs[0])
        if last is not None and _operand(inner, last) is inner.closed.jaxpr.invars[0]:
            found = eqn.invars[0]
    elif name == "max":
        a, b = eqn.invars
        found = a if _is_zero(program, b) else b if _is_zero(program, a) else None
    elif name == "select_n" and len(eqn.invars) == 3:
        x, above = _compared(program, eqn.invars[0])
        off, on = eqn.invars[1:] if above else eqn.invars[:0:-1]
        found = on if _same(program, on, x) and _is_zero(program, off) else None
    elif name == "mul":
        for a, b in (eqn.invars, eqn.invars[::-1]):
            x, above = _compared(program, b)
            found = a if above and _same(program, a, x) else found
    return None if isinstance(found, Literal) else found


def _compared(program, atom):
    """Returns x and True of `x > 0` or `x >= 0`, x and False of `x < 0`, else None and True."""
    eqn = program.maker(atom)
    while eqn is not None and eqn.primitive.name in ("convert_element_type", "copy"):
        eqn = program.maker(eqn.invars[0])
    if eqn is None or eqn.primitive.name not in ("gt", "ge", "lt", "le"):
        return None, True
    (left, right), above = eqn.invars, eqn.primitive.name in ("gt", "ge")
    if _is_zero(program, left):
        left, right, above = right, left, not above
    if isinstance(left, Literal) or not _is_zero(program, right):
        return None, True
    return left, above


def _same(program, a, b, depth=20):
    """Whether two variables are one, or were computed twice alike: `where(f(x) > 0, f(x), 0)`."""
    if a is b:
        return True
    if isinstance(a, Literal) and isinstance(b, Literal):
        return bool(np.array_equal(a.val, b.val))
    first, second = program.maker(a), program.maker(b)
    if first is None or second is None or not depth:
        return False
    alike = first.primitive is second.primitive and first.params == second.params
    operands = zip(first.invars, second.invars, strict=False)
    places = first.outvars.index(a) == second.outvars.index(b)
    return alike and places and all(_same(program, x, y, depth - 1) for x, y in operands)


def _is_zero(program, atom):
    if isinstance(atom, Literal):
        return _all_zero(atom.val)
    closed = program.closed
    if atom in closed.jaxpr.constvars:
        return _all_zero(closed.consts[closed.jaxpr.constvars.index(atom)])
    eqn = program.maker(atom)
    plain = ("broadcast_in_dim", "convert_element_type", "copy", "reshape")
    return eqn is not None and eqn.primitive.name in plain and _is_zero(program, eqn.invars[0])


def _all_zero(value):
    if isinstance(value, jax.core.Tracer) or not jnp.issubdtype(value.dtype, jnp.number):
        return False
    return bool(np.all(np.asarray(value) == 0))
