/**
 * Reads Python's pickles, the language in which `torch.save` describes tensors, without ever running anything: globals
 * are looked up in a list given by the caller and refused by name if they are not in it. Protocols 2 to 5.
 * Opcodes: https://github.com/python/cpython/blob/main/Lib/pickletools.py
 *
 * @module
 */
import { PickleMachine, type ReadPickleOptions } from "./pickle_machine.ts";

/** Longest pickle worth reading, in bytes. */
export const MAX_PICKLE_BYTES = 2 ** 25;

/** Most steps that a pickle may take: a million numbers, or some ten thousand tensors, take about a million. */
export const MAX_PICKLE_STEPS = 5_000_000;

/**
 * The value of a pickle, and where it ends. Dicts become Maps, lists, tuples and sets become arrays, None null, bytes
 * Uint8Array, integers that a number cannot hold bigints.
 *
 * @throws {PickleCutShort} If the bytes end before the pickle does.
 * @throws {SyntaxError} If the pickle is damaged.
 * @throws {TypeError} If it needs a global that is not allowed, or takes too many steps.
 */
export function readPickle(bytes: Uint8Array, options: ReadPickleOptions): { value: unknown; end: number } {
  const machine = new PickleMachine(bytes, options);
  for (let step = 0; step < MAX_PICKLE_STEPS; step++) {
    const opcode = machine.unsigned(1);
    if (opcode === STOP) return { value: machine.pop(), end: machine.position };
    const run = opcodes.get(opcode);
    if (run === undefined) {
      throw machine.damaged(`its opcodes must be of protocols 2 to 5, current value is 0x${opcode.toString(16)}`);
    }
    run(machine);
  }
  throw machine.refused(`it must take at most ${MAX_PICKLE_STEPS} steps`);
}

const STOP = 0x2e;

type Opcode = (machine: PickleMachine) => void;

// Names are those of Python's pickletools.
const opcodes: ReadonlyMap<number, Opcode> = new Map<number, Opcode>([
  // Framing
  [0x80, /* PROTO */ (machine) => machine.take(1)],
  [0x95, /* FRAME */ (machine) => machine.take(8)],
  // Numbers
  [0x4e, /* NONE */ (machine) => machine.push(null)],
  [0x88, /* NEWTRUE */ (machine) => machine.push(true)],
  [0x89, /* NEWFALSE */ (machine) => machine.push(false)],
  [0x4a, /* BININT */ (machine) => machine.push(machine.take(4).getInt32(0, true))],
  [0x4b, /* BININT1 */ (machine) => machine.push(machine.unsigned(1))],
  [0x4d, /* BININT2 */ (machine) => machine.push(machine.unsigned(2))],
  [0x8a, /* LONG1 */ (machine) => machine.push(machine.integer(machine.unsigned(1)))],
  [0x8b, /* LONG4 */ (machine) => machine.push(machine.integer(machine.unsigned(4)))],
  [0x47, /* BINFLOAT */ (machine) => machine.push(machine.take(8).getFloat64(0))],
  // Text, where Python 2 wrote its byte strings, and bytes
  [0x55, /* SHORT_BINSTRING */ (machine) => machine.push(machine.text(machine.unsigned(1)))],
  [0x54, /* BINSTRING */ (machine) => machine.push(machine.text(machine.unsigned(4)))],
  [0x8c, /* SHORT_BINUNICODE */ (machine) => machine.push(machine.text(machine.unsigned(1)))],
  [0x58, /* BINUNICODE */ (machine) => machine.push(machine.text(machine.unsigned(4)))],
  [0x8d, /* BINUNICODE8 */ (machine) => machine.push(machine.text(machine.unsigned(8)))],
  [0x43, /* SHORT_BINBYTES */ (machine) => machine.push(machine.bytes(machine.unsigned(1)))],
  [0x42, /* BINBYTES */ (machine) => machine.push(machine.bytes(machine.unsigned(4)))],
  [0x8e, /* BINBYTES8 */ (machine) => machine.push(machine.bytes(machine.unsigned(8)))],
  [0x96, /* BYTEARRAY8 */ (machine) => machine.push(machine.bytes(machine.unsigned(8)))],
  // Lists, tuples, sets
  [0x28, /* MARK */ (machine) => machine.mark()],
  [0x29, /* EMPTY_TUPLE */ (machine) => machine.push([])],
  [0x85, /* TUPLE1 */ (machine) => machine.push(machine.popItems(1))],
  [0x86, /* TUPLE2 */ (machine) => machine.push(machine.popItems(2))],
  [0x87, /* TUPLE3 */ (machine) => machine.push(machine.popItems(3))],
  [0x74, /* TUPLE */ (machine) => machine.push(machine.popToMark())],
  [0x5d, /* EMPTY_LIST */ (machine) => machine.push([])],
  [0x6c, /* LIST */ (machine) => machine.push(machine.popToMark())],
  [0x61, /* APPEND */ (machine) => machine.append(machine.popItems(1))],
  [0x65, /* APPENDS */ (machine) => machine.append(machine.popToMark())],
  [0x8f, /* EMPTY_SET */ (machine) => machine.push([])],
  [0x90, /* ADDITEMS */ (machine) => machine.append(machine.popToMark())],
  [0x91, /* FROZENSET */ (machine) => machine.push(machine.popToMark())],
  // Dicts
  [0x7d, /* EMPTY_DICT */ (machine) => machine.push(new Map())],
  [0x64, /* DICT */ (machine) => machine.pushDict(machine.popToMark())],
  [0x73, /* SETITEM */ (machine) => machine.setItems(machine.popItems(2))],
  [0x75, /* SETITEMS */ (machine) => machine.setItems(machine.popToMark())],
  // Stack and memo
  [0x30, /* POP */ (machine) => machine.pop()],
  [0x31, /* POP_MARK */ (machine) => machine.popToMark()],
  [0x32, /* DUP */ (machine) => machine.push(machine.top())],
  [0x71, /* BINPUT */ (machine) => machine.remember(machine.unsigned(1))],
  [0x72, /* LONG_BINPUT */ (machine) => machine.remember(machine.unsigned(4))],
  [0x94, /* MEMOIZE */ (machine) => machine.remember()],
  [0x68, /* BINGET */ (machine) => machine.recall(machine.unsigned(1))],
  [0x6a, /* LONG_BINGET */ (machine) => machine.recall(machine.unsigned(4))],
  // Objects
  [0x63, /* GLOBAL */ (machine) => machine.pushGlobal([machine.line(), machine.line()])],
  [0x93, /* STACK_GLOBAL */ (machine) => machine.pushGlobal(machine.popItems(2))],
  [0x52, /* REDUCE */ (machine) => machine.call(machine.popItems(2))],
  [0x81, /* NEWOBJ */ (machine) => machine.call(machine.popItems(2))],
  [0x62, /* BUILD */ (machine) => machine.build()],
  [0x51, /* BINPERSID */ (machine) => machine.persistent()],
]);
