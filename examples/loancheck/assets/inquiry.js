"use strict";

// The page of an inquiry: follows the process, then shows its results. Everything that comes from a bank is put in as text.
const box = document.getElementById("process");
const id = box.dataset.id;

function element(name, text, className) {
  const e = document.createElement(name);
  if (text !== undefined && text !== null) e.textContent = text;
  if (className) e.className = className;
  return e;
}

function mark(step, state) {
  box.querySelector(`[data-step="${step}"]`).dataset.state = state;
}

const waits = { sync: "running", check: "", report: "" };

function show(p) {
  box.dataset.status = p.status;
  const steps = p.steps || [];
  const at = { ...waits };
  const failed = p.status === "SYNC_FAILED" || p.status === "FAILED";
  if (p.status === "SYNC_FAILED") {
    at.sync = "failed";
  } else if (p.status !== "SYNC_CREATED" && p.status !== "SYNC_STARTED") {
    at.sync = "done";
    at.check = steps.includes("check:balancesCheck") ? "done" : failed ? "failed" : "running";
    if (at.check === "done") at.report = p.status === "DONE" ? "done" : failed ? "failed" : "running";
  }
  for (const step in at) mark(step, at[step]);
  if (failed) {
    const why = document.getElementById("reason");
    why.hidden = false;
    why.textContent = texts[p.reason && p.reason.code] || "This could not be finished (" + ((p.reason && p.reason.code) || "unknown") + ").";
  }
}

const texts = {
  UPDATE_REQUIRED: "Your bank asks you to confirm the access again. Please begin again.",
  NO_DATA_SOURCES: "No bank is connected. Please begin again.",
  BANK_UNAVAILABLE: "Your bank does not answer at the moment. Please try again later.",
  TIMEOUT: "Your bank takes too long. Please try again later.",
};

// Amounts stay text on the way: JSON.parse would make floats of them.
function amounts(text) {
  return JSON.parse(text, (key, value, context) => (typeof value === "number" && context && context.source ? context.source : value));
}

function money(amount, currency) {
  return amount === null || amount === undefined ? "–" : amount + " " + currency;
}

function table(head, rows) {
  const t = element("table");
  const h = t.createTHead().insertRow();
  for (const text of head) h.append(element("th", text));
  const body = t.createTBody();
  for (const row of rows) {
    const r = body.insertRow();
    row.forEach((text, i) => r.append(element("td", text, i > 0 ? "number" : "")));
  }
  return t;
}

const verdicts = {
  COVERED: ["Yes", "The amount can be paid from what is on the account."],
  COVERED_BY_OVERDRAFT: ["Yes, with the overdraft", "The amount can be paid, but the overdraft would be needed."],
  NOT_COVERED: ["No", "The amount cannot be paid from any account."],
};

function results(p) {
  const check = p.results["check:balancesCheck"];
  const section = document.getElementById("check");
  const [title, text] = verdicts[check.result] || ["Unknown", "No account has a balance to check."];
  section.dataset.result = check.result;
  section.append(element("h2", title), element("p", text),
    table(["Account", "Balance", "Available"], (check.accounts || []).map((a) => [a.accountName || a.iban || a.accountType, money(a.balance, a.currency), money(a.available, a.currency)])));
  section.hidden = false;

  const report = document.getElementById("report");
  report.append(element("h2", "Your accounts"));
  const balances = p.results["report:cashFlow/balances"].result;
  report.append(table(["Account", "Average", "Lowest", "Days below zero"],
    balances.accounts.map((a) => { const s = a.statistics || {}; return [a.accountName || a.iban || a.accountType, money(s.average, a.currency), money(s.minimum, a.currency), s.daysBelowZero ?? "–"]; })));
  for (const c of p.results["report:cashFlow/incomeAndSpending"].result.currencies) {
    report.append(element("h3", "Income and spending in " + c.currency));
    report.append(table(["", "Total", "A month"], [
      ["Income", money(c.income && c.income.total, c.currency), money(c.income && c.income.monthlyAverage, c.currency)],
      ["Spending", money(c.spending && c.spending.total, c.currency), money(c.spending && c.spending.monthlyAverage, c.currency)]]));
  }
  const signs = p.results["report:risk/indicators"].result.indicators.filter((i) => Number(i.count) > 0);
  report.append(element("h3", "Signs of risk"));
  report.append(signs.length === 0 ? element("p", "None were found.") : table(["Sign", "Count"], signs.map((i) => [i.type.toLowerCase().replaceAll("_", " "), i.count])));
  report.hidden = false;
}

async function finish() {
  const answer = await fetch("/processes/" + id);
  if (!answer.ok) return setTimeout(finish, 2000);
  const p = amounts(await answer.text());
  show(p);
  if (p.status === "DONE") results(p);
}

const stream = new EventSource("/processes/events?process=" + encodeURIComponent(id));
stream.addEventListener("process", (e) => {
  const p = JSON.parse(e.data);
  show(p);
  if (["DONE", "FAILED", "SYNC_FAILED"].includes(p.status)) {
    stream.close();
    finish();
  }
});
