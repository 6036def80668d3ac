import { createCpuBackend } from "../../lib/compute/cpu/backend.ts";
import { backendCases } from "../support/backend_cases.ts";

for (const { name, run } of backendCases) {
  Deno.test(`cpu: ${name}`, async () => {
    const backend = await createCpuBackend({ threads: 1 });
    try {
      await run(backend);
    } finally {
      await backend.close();
    }
  });
}
