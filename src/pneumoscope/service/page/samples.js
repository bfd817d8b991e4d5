// The six radiographs that come with the package.

const SAMPLES = [
  "NORMAL2-IM-1427-0001.jpeg", "NORMAL2-IM-1437-0001.jpeg", "NORMAL2-IM-1438-0001.jpeg",
  "person1946_bacteria_4874.jpeg", "person1952_bacteria_4883.jpeg", "person1954_bacteria_4886.jpeg",
];

/** Fetch them as files. @returns {Promise<File[]>} */
export function samples() {
  return Promise.all(SAMPLES.map(async (name) => {
    const answer = await fetch(`samples/${name}`);
    if (!answer.ok) throw new Error(`The sample images are missing (${answer.status}).`);
    return new File([await answer.blob()], name);
  }));
}
