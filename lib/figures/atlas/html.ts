/**
 * HTML that is safe by default: whatever is put into an `html` template is escaped, unless it is HTML itself. File
 * names and labels come from anywhere.
 *
 * @module
 */
import { escapeXml } from "../dom.ts";

/** A piece of HTML, as opposed to plain text. */
export class Html {
  readonly text: string;

  /** @param text Must be well-formed HTML: it is used as it is. */
  constructor(text: string) {
    this.text = text;
  }
}

/** What can be put into a template; `undefined` and `""` add nothing. */
export type HtmlValue = string | number | Html | undefined | readonly HtmlValue[];

/** A template whose values are escaped, both between tags and inside double quotes. */
export function html(strings: TemplateStringsArray, ...values: HtmlValue[]): Html {
  return new Html(strings.reduce((text, part, i) => text + toText(values[i - 1]) + part));
}

function toText(value: HtmlValue): string {
  if (value === undefined) return "";
  if (value instanceof Html) return value.text;
  if (Array.isArray(value)) return value.map(toText).join("");
  return escapeXml(String(value));
}

/** What every page of the atlas starts and ends with. */
export interface PageOptions {
  title: string;
  /** Path from the page back to the folder of the atlas: `""` or `"../"`. */
  root: string;
  body: Html;
  /** Paths of scripts from the folder of the atlas, in order. */
  scripts: readonly string[];
}

/** A complete HTML document. */
export function page({ title, root, body, scripts }: PageOptions): string {
  return html`
    <!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <title>${title}</title>
        <link rel="icon" href="data:,">
        <link rel="stylesheet" href="${root}style.css">
      </head>
      <body>
    ${body}
    ${scripts.map((script) => html`<script src="${root}${script}"></script>\n`)}</body>
    </html>
  `.text;
}
