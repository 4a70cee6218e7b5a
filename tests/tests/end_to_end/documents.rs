//! The two pipeline documents of the requirements, as they stand, with records that take every branch.

use std::fs;

use crate::support::{engine, golden, here, run, shared_data};

#[test]
fn message_enrichment_pipeline() {
    document("message-enrichment-pipeline");
}

#[test]
fn iot_sensor_processing() {
    document("iot-sensor-processing");
}

fn document(name: &str) {
    let Some(data) = shared_data(name) else {
        return;
    };
    let engine = engine(&data.join(format!("pipelines/{name}.json")), 1);
    let records = here(&format!("{name}.ndjson"));
    let (counts, out, failed) = run(&engine, &records, 64);
    assert_eq!(failed, "");

    // None of these records is dropped or multiplied, so that inputs and outputs are pairs.
    let records = fs::read_to_string(records).expect("text");
    let (inputs, outputs): (Vec<&str>, Vec<&str>) =
        (records.lines().collect(), out.lines().collect());
    assert_eq!(inputs.len(), outputs.len());
    let mut shown = String::new();
    for (input, output) in inputs.iter().zip(outputs) {
        let output = if *input == output { "the same" } else { output };
        shown.push_str(&format!("in   {input}\nout  {output}\n\n"));
    }
    shown.push_str(&format!(
        "{} in, {} out, {} pipelines undone, {} modules skipped\n",
        counts.records_in, counts.records_out, counts.stopped, counts.skipped_modules
    ));
    golden(&format!("{name}.txt"), &shown);
}
