// Reports with the words highlighted in which they differ from the reference.
// Words are compared case-insensitively and without punctuation. Each Chinese character is a word.
const WORD =
  /\p{Script=Han}|\d+(?:[.,]\d+)*|(?:(?!\p{Script=Han})[\p{L}\p{M}\p{N}])+(?:['’\-](?:(?!\p{Script=Han})[\p{L}\p{N}])+)*/gu;
const MOST_CELLS = 6e6; // of the comparison's table; beyond this the middle of two texts is highlighted as a whole

function wordsOf(text) {
  return [...text.matchAll(WORD)].map((match) => ({
    word: match[0].toLowerCase(),
    start: match.index,
    end: match.index + match[0].length,
    common: false,
  }));
}

// Set `common` of the words of the longest common subsequence of two texts.
function markCommon(left, right) {
  const mark = (i, j) => (left[i].common = right[j].common = true);
  const shorter = Math.min(left.length, right.length);
  let head = 0;
  let tail = 0;
  while (head < shorter && left[head].word === right[head].word) {
    mark(head, head);
    head += 1;
  }
  while (tail < shorter - head && left.at(-1 - tail).word === right.at(-1 - tail).word) {
    mark(left.length - 1 - tail, right.length - 1 - tail);
    tail += 1;
  }
  const rows = left.slice(head, left.length - tail).map(({ word }) => word);
  const columns = right.slice(head, right.length - tail).map(({ word }) => word);
  for (const [i, j] of commonSubsequence(rows, columns)) mark(head + i, head + j);
}

// The pairs of positions of a longest common subsequence; none if the texts are too long to compare.
function commonSubsequence(left, right) {
  const wide = right.length + 1;
  if ((left.length + 1) * wide > MOST_CELLS) return [];
  const longest = new Uint16Array((left.length + 1) * wide); // its length from these positions to the ends
  for (let i = left.length - 1; i >= 0; i -= 1) {
    for (let j = right.length - 1; j >= 0; j -= 1) {
      const at = i * wide + j;
      longest[at] = left[i] === right[j] ? longest[at + wide + 1] + 1 : Math.max(longest[at + wide], longest[at + 1]);
    }
  }
  const found = [];
  for (let i = 0, j = 0; i < left.length && j < right.length;) {
    if (left[i] === right[j]) {
      found.push([i, j]);
      i += 1;
      j += 1;
    } else if (longest[(i + 1) * wide + j] >= longest[i * wide + j + 1]) i += 1;
    else j += 1;
  }
  return found;
}

// Where a differing stretch has several equivalent positions ("the [heart is large . the] lungs"), move it to the
// start of a sentence.
function slideToSentence(text, words) {
  const opens = (index) => index === 0 || /[.;:!?]/.test(text.slice(words[index - 1].end, words[index].start));
  for (let first = 0; first < words.length; first += 1) {
    if (words[first].common) continue;
    let last = first;
    while (last + 1 < words.length && !words[last + 1].common) last += 1;
    const canMove = (shift) => {
      const before = words[first - shift - 1];
      return before?.common && before.word === words[last - shift].word;
    };
    let shift = 0;
    while (!opens(first - shift) && canMove(shift)) shift += 1;
    if (shift && opens(first - shift)) {
      for (let step = 1; step <= shift; step += 1) {
        words[first - step].common = false;
        words[last - step + 1].common = true;
      }
    }
    first = last;
  }
}

// The words of reference and report, and how far they overlap.
function compared(row) {
  const reference = wordsOf(row.reference);
  const report = wordsOf(row.report);
  markCommon(reference, report);
  slideToSentence(row.reference, reference);
  slideToSentence(row.report, report);
  const common = report.filter((one) => one.common).length;
  const all = reference.length + report.length;
  return { row, reference, report, overlap: all ? (2 * common) / all : 1, differs: common * 2 !== all };
}

// A paragraph in which the words that are not common are elements `tag`.
function highlighted(text, words, tag, meaning) {
  if (!text.trim()) return h("p.none", "(empty)");
  const paragraph = h("p", { dir: "auto" });
  let at = 0;
  for (let index = 0; index < words.length; index += 1) {
    if (words[index].common) continue;
    const start = words[index].start;
    while (index + 1 < words.length && !words[index + 1].common) index += 1;
    paragraph.append(text.slice(at, start), h(tag, { title: meaning }, text.slice(start, words[index].end)));
    at = words[index].end;
  }
  paragraph.append(text.slice(at));
  return paragraph;
}
