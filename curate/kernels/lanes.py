"""What numba does not do by itself: loops that count no references, unaligned loads, eight floats added, 64 bytes looked at at once."""

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

# Counting references to arrays took half of the time, so what runs per word neither makes nor returns one.
looped = njit(cache=True, error_model="numpy", _nrt=False)
inlined = njit(cache=True, error_model="numpy", _nrt=False, forceinline=True)


@intrinsic
def load8(context: Any, array: Any, index: Any) -> Any:
    """Eight bytes at `index` as a little-endian number, unaligned and unchecked."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        fields = cgutils.create_struct_proxy(signature.args[0])(context, builder, arguments[0])
        place = builder.bitcast(builder.gep(fields.data, [arguments[1]]), ir.IntType(64).as_pointer())
        value = builder.load(place)
        value.align = 1
        return value

    return types.uint64(array, types.int64), generate


@intrinsic
def trailing_zeros(context: Any, number: Any) -> Any:
    """Zero bits below the lowest one bit."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), generate


@intrinsic
def ones(context: Any, number: Any) -> Any:
    """One bits of a number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


def _eight(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Pointer to eight floats of an array, unaligned."""
    data = cgutils.create_struct_proxy(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), ir.VectorType(ir.FloatType(), 8).as_pointer())


@intrinsic
def add8(context: Any, into: Any, at: Any, matrix: Any, start: Any) -> Any:
    """into[at : at + 8] += eight floats of the matrix from `start`; LLVM does not see that the two never overlap."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target = _eight(context, builder, signature.args[0], arguments[0], arguments[1])
        source = _eight(context, builder, signature.args[2], arguments[2], arguments[3])
        total = builder.fadd(builder.load(target, align=4), builder.load(source, align=4))
        builder.store(total, target, align=4)
        return context.get_dummy_value()

    return types.void(into, types.int64, matrix, types.int64), generate


@intrinsic
def add8_rows(context: Any, into: Any, at: Any, matrix: Any, rows: Any, num: Any) -> Any:
    """into[at : at + 8] += the same columns of matrix[rows[i]], one i after the other."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        into, at, matrix, rows, num = arguments
        target = _eight(context, builder, signature.args[0], into, at)
        width = builder.extract_value(
            cgutils.create_struct_proxy(signature.args[2])(context, builder, matrix).shape, 1
        )
        row_data = cgutils.create_struct_proxy(signature.args[3])(context, builder, rows).data
        total = cgutils.alloca_once_value(builder, builder.load(target, align=4))
        with cgutils.for_range(builder, num) as loop:
            start = builder.add(builder.mul(builder.load(builder.gep(row_data, [loop.index])), width), at)
            source = _eight(context, builder, signature.args[2], matrix, start)
            builder.store(builder.fadd(builder.load(total), builder.load(source, align=4)), total)
        builder.store(builder.load(total), target, align=4)
        return context.get_dummy_value()

    return types.void(into, types.int64, matrix, rows, types.int64), generate


@intrinsic
def fold64(context: Any, data: Any, i: Any, out: Any, o: Any) -> Any:
    """Write 64 bytes of data from i to out[o:], letters lowered, blanks for what is no letter or digit of ASCII.

    Returns 64 bits, the lowest first: whether a byte is none of ASCII.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = ir.VectorType(ir.IntType(8), 64)

        def all64(value: int) -> Any:
            return ir.Constant(lanes, [value] * 64)

        def place(array: int, at: int) -> Any:
            pointer = cgutils.create_struct_proxy(signature.args[array])(
                context, builder, arguments[array]
            ).data
            return builder.bitcast(builder.gep(pointer, [arguments[at]]), lanes.as_pointer())

        block = builder.load(place(0, 1), align=1)
        small = builder.or_(block, all64(0x20))
        letter = builder.icmp_unsigned("<", builder.sub(small, all64(ord("a"))), all64(26))
        digit = builder.icmp_unsigned("<", builder.sub(block, all64(ord("0"))), all64(10))
        kept = builder.select(digit, block, all64(0x20))
        builder.store(builder.select(letter, small, kept), place(2, 3), align=1)
        return builder.bitcast(builder.icmp_signed("<", block, all64(0)), ir.IntType(64))

    return types.uint64(data, types.int64, out, types.int64), generate


@intrinsic
def not_blank64(context: Any, array: Any, index: Any) -> Any:
    """64 bits, the lowest first: whether the byte at `index` + bit is no blank."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = ir.VectorType(ir.IntType(8), 64)
        data = cgutils.create_struct_proxy(signature.args[0])(context, builder, arguments[0]).data
        block = builder.load(builder.bitcast(builder.gep(data, [arguments[1]]), lanes.as_pointer()), align=1)
        differ = builder.icmp_unsigned("!=", block, ir.Constant(lanes, [0x20] * 64))
        return builder.bitcast(differ, ir.IntType(64))

    return types.uint64(array, types.int64), generate


@intrinsic
def between64(context: Any, data: Any, i: Any, low: Any, high: Any) -> Any:
    """64 bits, the lowest first: whether each byte from data[i] lies in low - high."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8)
        lanes = ir.VectorType(byte, 64)

        def all64(number: Any) -> Any:
            one = builder.insert_element(
                ir.Constant(lanes, ir.Undefined), builder.trunc(number, byte), ir.IntType(32)(0)
            )
            return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), 64), [0] * 64))

        pointer = cgutils.create_struct_proxy(signature.args[0])(context, builder, arguments[0]).data
        block = builder.load(
            builder.bitcast(builder.gep(pointer, [arguments[1]]), lanes.as_pointer()), align=1
        )
        width = all64(builder.sub(arguments[3], arguments[2]))
        found = builder.icmp_unsigned("<=", builder.sub(block, all64(arguments[2])), width)
        return builder.bitcast(found, ir.IntType(64))

    return types.uint64(data, types.int64, types.int64, types.int64), generate


@intrinsic
def prefetch(context: Any, array: Any, index: Any) -> Any:
    """Call the line of memory that holds array.flat[index] into the caches."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = cgutils.create_struct_proxy(signature.args[0])(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
        call = builder.module.declare_intrinsic("llvm.prefetch", [place.type], kind)
        builder.call(call, [place, number(0), number(3), number(1)])  # to read, to be kept, data
        return context.get_dummy_value()

    return types.void(array, types.int64), generate
