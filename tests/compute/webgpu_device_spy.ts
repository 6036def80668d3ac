/**
 * What a test sees of a device, and how it makes one fail. Methods of the real device are replaced one by one; whatever
 * is not made to fail still runs on the adapter.
 *
 * @module
 */
import type { TestBackend } from "../support/software_adapter.ts";

/** One thing that happened between host and device. */
export interface DeviceEvent {
  /** A piece of work was handed to the device, or results have arrived from it. */
  kind: "submitted" | "arrived";
  /** Label of the work; "read results" for copies. */
  label: string;
  /** Bytes that arrived. */
  bytes: number;
}

/** Notes from now on, in order, what is handed to the device and what arrives. */
export function watchDevice({ device }: TestBackend): DeviceEvent[] {
  const events: DeviceEvent[] = [];
  const createCommandEncoder = device.createCommandEncoder.bind(device);
  device.createCommandEncoder = (descriptor) => {
    events.push({ kind: "submitted", label: descriptor?.label ?? "", bytes: 0 });
    return createCommandEncoder(descriptor);
  };
  const createBuffer = device.createBuffer.bind(device);
  device.createBuffer = (descriptor) => {
    const buffer = createBuffer(descriptor);
    const mapAsync = buffer.mapAsync.bind(buffer);
    buffer.mapAsync = async (mode, offset, size) => {
      const answer = await mapAsync(mode, offset, size);
      events.push({ kind: "arrived", label: "read results", bytes: size ?? 0 });
      return answer;
    };
    return buffer;
  };
  return events;
}

/**
 * From now on buffers of more than `maxBytes` bytes do not fit: their error scope catches an out-of-memory error, as it
 * does on a device that is full. Returns the sizes that were refused.
 */
export function limitMemory({ device }: TestBackend, maxBytes: number): number[] {
  const refused: number[] = [];
  const scopes: { filter: GPUErrorFilter; error: GPUError | null }[] = [];
  const [createBuffer, pushErrorScope, popErrorScope] = [
    device.createBuffer.bind(device),
    device.pushErrorScope.bind(device),
    device.popErrorScope.bind(device),
  ];
  device.pushErrorScope = (filter) => {
    scopes.push({ filter, error: null });
    pushErrorScope(filter);
  };
  device.popErrorScope = () => {
    const { error } = scopes.pop()!;
    return popErrorScope().then((real) => error ?? real);
  };
  device.createBuffer = (descriptor) => {
    if (descriptor.size <= maxBytes) return createBuffer(descriptor);
    refused.push(descriptor.size);
    const scope = scopes.findLast(({ filter }) => filter === "out-of-memory");
    if (!scope) throw new Error("a buffer was made outside any error scope");
    scope.error ??= { message: `no room for ${descriptor.size} bytes` } as GPUError;
    return createBuffer({ ...descriptor, size: 16 });
  };
  return refused;
}

/** Destroys the device right after it was handed the `n`-th piece of work from now on. */
export function loseAfter({ device }: TestBackend, n: number): void {
  const { queue } = device;
  const submit = queue.submit.bind(queue);
  let submitted = 0;
  queue.submit = (commands) => {
    submit(commands);
    if (++submitted === n) device.destroy();
  };
}
