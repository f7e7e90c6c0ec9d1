/**
 * Makes one Google form for each condition: paste this into a new project at script.google.com,
 * run createForms, and allow it to make forms. The addresses then stand in the log.
 *
 * Put each condition's recording where its listeners can play it, and say where in the form's
 * description. Export a form's answers as CSV; metamer-jax listen analyze reads them.
 */
const EXPERIMENT = /* DATA */ null;

function createForms() {
  EXPERIMENT.forms.forEach(createForm);
}

function createForm(plan) {
  const form = FormApp.create(EXPERIMENT.title.replace(/,/g, "") + " - condition " + plan.condition);
  form.setDescription(
    "Listen to " + plan.recording + " once, from beginning to end, over headphones. A chime " +
    "announces each part. After each sound choose the word that you heard; if you are not " +
    "sure, guess."
  );
  form.setProgressBar(true);
  form.setAllowResponseEdits(false);
  form.addTextItem().setTitle("Participant").setRequired(true);
  form.addMultipleChoiceItem().setTitle("Condition")
    .setChoiceValues([String(plan.condition)]).setRequired(true);
  let number = 0;
  plan.batches.forEach(function (size, batch) {
    form.addPageBreakItem().setTitle("Part " + (batch + 1) + " of " + plan.batches.length);
    for (let i = 0; i < size; i++) {
      number += 1;
      form.addMultipleChoiceItem().setTitle(String(number)).setChoiceValues(EXPERIMENT.words);
    }
  });
  Logger.log("Condition " + plan.condition + ": " + form.getPublishedUrl());
  return form;
}
