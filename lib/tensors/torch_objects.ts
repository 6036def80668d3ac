/**
 * What PyTorch's pickles may speak of, as plain descriptions: storages, tensors that are views of them, and the dicts
 * and lists that hold tensors. Shared by the zip files of `torch.save` and the older ones without a zip.
 *
 * @module
 */
import { damaged, refused } from "./byte_source.ts";
import { bytesPerNumber, isTensorDtype, type TensorDtype } from "./dtypes.ts";
import type { PickleGlobal } from "./pickle_machine.ts";

/** A run of numbers in a file, which tensors are views of. */
export class TorchStorage {
  constructor(
    readonly key: string,
    /** Absent for bytes, whose kind of number only their tensors know. */
    readonly dtype: TensorDtype | undefined,
    /** Length in numbers, or in bytes if `dtype` is absent. */
    readonly length: number,
    /** Where it begins in the storage of the same key, in numbers: not 0 for views in files before PyTorch 0.4. */
    readonly first: number = 0,
  ) {}
}

/** A view of a storage. Offsets and strides are in numbers. */
export class TorchTensor {
  constructor(
    readonly storage: TorchStorage,
    readonly dtype: TensorDtype,
    readonly offset: number,
    readonly shape: readonly number[],
    readonly strides: readonly number[],
  ) {}
}

const storageDtypes: Readonly<Record<string, TensorDtype | undefined>> = {
  "torch.DoubleStorage": "float64",
  "torch.FloatStorage": "float32",
  "torch.HalfStorage": "float16",
  "torch.BFloat16Storage": "bfloat16",
  "torch.LongStorage": "int64",
  "torch.IntStorage": "int32",
  "torch.ShortStorage": "int16",
  "torch.CharStorage": "int8",
  "torch.ByteStorage": "uint8",
  "torch.BoolStorage": "bool",
  "torch.UntypedStorage": undefined,
  "torch.storage.UntypedStorage": undefined,
};

/** Globals that PyTorch's pickles of tensors and plain data name, by dotted name. */
export function torchGlobals(file: string): Map<string, PickleGlobal> {
  const fail = (what: string) => damaged(file, `its pickle must describe ${what} as PyTorch does`);

  const tensor = (args: readonly unknown[], dtype?: unknown) => {
    const [storage, offset, shape, strides] = args;
    if (!(storage instanceof TorchStorage) || !isSize(offset) || !isSizes(shape) || !isSizes(strides)) {
      throw fail("tensors");
    }
    const kind = storage.dtype ?? String((dtype as PickleGlobal | undefined)?.name).replace("torch.", "");
    if (!isTensorDtype(kind)) {
      const known = Object.keys(bytesPerNumber).join(", ");
      throw refused(file, `kinds of tensors must be one of ${known}, current value is ${kind}`);
    }
    return new TorchTensor(storage, kind, offset, shape, strides);
  };
  const first = ([value]: readonly unknown[]) => value;
  const calls: Record<string, PickleGlobal["call"]> = {
    "torch._utils._rebuild_tensor": tensor,
    "torch._utils._rebuild_tensor_v2": tensor,
    "torch._utils._rebuild_tensor_v3": (args) => tensor(args, args[6]),
    "torch._utils._rebuild_parameter": first,
    "torch._utils._rebuild_parameter_with_state": first,
    // A function, the class of the tensor, the function's arguments, attributes of the tensor.
    "torch._tensor._rebuild_from_type_v2": ([rebuild, , args]) => {
      const call = (rebuild as PickleGlobal | null)?.call;
      if (call === undefined || !Array.isArray(args)) throw fail("tensors");
      return call(args);
    },
    "torch.Size": first,
    "torch.device": (args) => args.join(":"),
    "collections.OrderedDict": ([items = []]) => {
      if (!Array.isArray(items) || !items.every((item) => Array.isArray(item) && item.length === 2)) {
        throw fail("dicts");
      }
      return new Map(items as [unknown, unknown][]);
    },
    // How protocol 2 writes bytes, and sets.
    "_codecs.encode": ([text, encoding]) => {
      if (typeof text !== "string" || encoding !== "latin1") throw fail("bytes");
      return Uint8Array.from(text, (character) => character.charCodeAt(0));
    },
    "__builtin__.set": ([items = []]) => items,
    "builtins.set": ([items = []]) => items,
  };
  const named = [
    ...Object.keys(storageDtypes),
    ...Object.keys(bytesPerNumber).map((dtype) => `torch.${dtype}`),
    "torch.Tensor",
    "torch.nn.parameter.Parameter",
  ];
  return new Map([
    ...named.map((name): [string, PickleGlobal] => [name, { name }]),
    ...Object.entries(calls).map(([name, call]): [string, PickleGlobal] => [name, { name, call }]),
  ]);
}

/**
 * The storage that a persistent id names: `("storage", class, key, device, length)`, then a view in older files.
 *
 * @throws {SyntaxError} If it is none.
 */
export function readStorageId(id: unknown, file: string): TorchStorage {
  const [kind, storageClass, key, , length, view] = Array.isArray(id) ? id : [];
  const className = String((storageClass as PickleGlobal | undefined)?.name);
  if (kind !== "storage" || typeof key !== "string" || !isSize(length) || !Object.hasOwn(storageDtypes, className)) {
    throw damaged(file, "its persistent ids must name storages");
  }
  if (view === undefined || view === null) return new TorchStorage(key, storageDtypes[className], length);
  const [, first, viewLength] = Array.isArray(view) ? view : [];
  if (!isSize(first) || !isSize(viewLength) || first + viewLength > length) {
    throw damaged(file, `storage ${key} must be a view of a part of itself`);
  }
  return new TorchStorage(key, storageDtypes[className], viewLength, first);
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && value as number >= 0;
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every(isSize);
}
