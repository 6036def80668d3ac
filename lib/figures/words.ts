/**
 * Words in figures: how wide they are, and where their lines break: SVG itself has no word for either.
 *
 * @module
 */

/** Estimated width of a line of text: widest of the fonts that figures may be shown in. */
export function textWidthPx(text: string, fontSizePx: number): number {
  return text.length * fontSizePx * 0.62;
}

/**
 * Lines that fit into `roomPx`, as far as their words do. Line breaks are kept, and so are numbers with their `%`.
 *
 * @returns No line for an empty text.
 */
export function wrapText(text: string, options: { roomPx: number; fontSizePx: number }): string[] {
  const { roomPx, fontSizePx } = options;
  if (text === "") return [];
  return text.split("\n").flatMap((paragraph) => {
    const lines: string[] = [];
    for (const word of paragraph.split(/ (?!%)/)) {
      const longer = lines.length === 0 ? word : `${lines.at(-1)} ${word}`;
      if (lines.length > 0 && textWidthPx(longer, fontSizePx) <= roomPx) lines[lines.length - 1] = longer;
      else lines.push(word);
    }
    return lines;
  });
}
