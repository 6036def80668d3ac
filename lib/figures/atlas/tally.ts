/**
 * Labels among a latent's top images: the quickest hint at what it stands for.
 *
 * @module
 */

/** How often a label occurs among the top images. */
export interface LabelCount {
  readonly label: string;
  readonly count: number;
  /** Of those top images that have a label. */
  readonly share: number;
}

/** Counts of the labels, most frequent first, ties in alphabetical order; images without a label do not count. */
export function tallyLabels(labels: Iterable<string | undefined>): LabelCount[] {
  const counts = new Map<string, number>();
  let total = 0;
  for (const label of labels) {
    if (label === undefined || label === "") continue;
    counts.set(label, (counts.get(label) ?? 0) + 1);
    total++;
  }
  return [...counts]
    .map(([label, count]) => ({ label, count, share: count / total }))
    .sort((a, b) => b.count - a.count || (a.label < b.label ? -1 : 1));
}
