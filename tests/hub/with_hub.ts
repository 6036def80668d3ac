/**
 * A fake Hub and an empty cache for one test.
 *
 * @module
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { HubOptions } from "../../lib/hub/hub.ts";
import { type FakeHub, startFakeHub } from "./fake_hub.ts";

/** Options that only reach the fake Hub, and wait for nothing. */
export type TestOptions = HubOptions & { cacheDir: string; hubUrl: string };

/** Runs a test with a fake Hub and a cache of its own. */
export async function withHub(test: (hub: FakeHub, options: TestOptions) => Promise<void>): Promise<void> {
  const cacheDir = await mkdtemp(join(tmpdir(), "sparsight-hub-"));
  const hub = await startFakeHub();
  try {
    await test(hub, { cacheDir, hubUrl: hub.url, token: "", offline: false, timeoutMs: 2000, retryDelayMs: 1 });
  } finally {
    await hub.close();
    await rm(cacheDir, { recursive: true });
  }
}
