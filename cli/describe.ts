/**
 * `describe`: what an SAE is, and what was decided when it was read.
 *
 * @module
 */
import { Command } from "commander";
import { loadSae } from "../lib/sae/load.ts";
import { describeSae } from "../lib/sae/sae.ts";
import { count, jsonOption, path, printResult } from "./report.ts";

/** Makes the command. */
export function describeCommand(): Command {
  return new Command("describe")
    .description("Say what an SAE is: ours, or a checkpoint of saev or CLIP-Scope. Nothing in it is executed.")
    .argument("<sae>", "folder, safetensors file or checkpoint", path)
    .option("--k <n>", "active latents a token, where the file does not tell", count)
    .addOption(jsonOption())
    .addHelpText("after", "\nExample:\n  deno run -A cli.ts describe checkpoints/sae.pt")
    .action(async (source, { k, json }) => {
      const sae = await loadSae(source, { k });
      const { dModel, dSae, rule, subtractBDec, provenance } = sae;
      const { format, decisions } = provenance;
      const ruleFacts = rule.kind === "jumpRelu" ? { kind: rule.kind } : rule;
      printResult({ d_model: dModel, d_sae: dSae, rule: ruleFacts, subtract_b_dec: subtractBDec, format, decisions }, {
        json,
        lines: [describeSae(sae)],
      });
    });
}
