/**
 * `describe`: what an SAE is, and what was decided when it was read.
 *
 * @module
 */
import { Command } from "commander";
import { describeSae } from "../lib/sae/sae.ts";
import { addConventionOptions, loadNamedSae, saeSource } from "./conventions.ts";
import { type CommandContext, jsonOption, path, printResult } from "./report.ts";

/** Makes the command. */
export function describeCommand(context: CommandContext): Command {
  const command = new Command("describe")
    .description("Say what an SAE is, and how it is read. Nothing in its files is executed.")
    .argument("<sae>", saeSource, path);
  return addConventionOptions(command)
    .addOption(jsonOption())
    .addHelpText("after", "\nExample:\n  deno run -A cli.ts describe checkpoints/sae.pt")
    .action(async (source, { json, ...flags }) => {
      const sae = await loadNamedSae({ ...flags, json, sae: source }, context);
      const { dModel, dSae, rule, subtractBDec, normalization = { kind: "none" }, provenance } = sae;
      const facts = {
        d_model: dModel,
        d_sae: dSae,
        // Without what is as long as the dictionary.
        rule: rule.kind === "jumpRelu" ? { kind: rule.kind } : rule,
        subtract_b_dec: subtractBDec,
        normalization: normalization.kind,
        format: provenance.format,
        model: provenance.model?.name,
        layer: provenance.layer,
        hook: provenance.hook,
        tokens: provenance.tokens,
        decisions: provenance.decisions,
      };
      printResult(facts, {
        json,
        lines: [describeSae(sae)],
      });
    });
}
