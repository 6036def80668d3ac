/**
 * Selection by rank.
 *
 * @module
 */

/**
 * The `rank`-th largest number, by Hoare's selection; moves the numbers about.
 *
 * @param rank 1 to the number of numbers, none of which is NaN.
 */
export function selectLargest(numbers: Float32Array, rank: number): number {
  const wanted = rank - 1;
  let [low, high] = [0, numbers.length - 1];
  while (low < high) {
    const pivot = numbers[(low + high) >>> 1];
    let [i, j] = [low, high];
    while (i <= j) {
      while (numbers[i] > pivot) i++;
      while (numbers[j] < pivot) j--;
      if (i > j) break;
      const number = numbers[i];
      numbers[i++] = numbers[j];
      numbers[j--] = number;
    }
    if (wanted <= j) high = j;
    else if (wanted >= i) low = i;
    else break;
  }
  return numbers[wanted];
}
