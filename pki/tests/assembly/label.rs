//! Labels, printed again.

use std::fs;
use std::process::Command;

use insta::assert_snapshot;

use super::{Factory, names};

#[test]
fn a_label_is_printed_again_from_the_ledger_alone() {
    let factory = Factory::new();
    factory.enrol_with("station --station line-1 --out out", b"SN1\n").ok();
    let first = ["txt", "svg", "png"]
        .map(|kind| fs::read(factory.path(&format!("line-1/labels/rfid-SN1.{kind}"))).unwrap());
    fs::remove_dir_all(factory.path("line-1/labels")).unwrap();
    fs::remove_file(factory.path("line-1/ca.key")).unwrap();
    let ended = factory.enrol("label --station line-1 --id rfid-SN1 --labels printed").ok();
    assert_eq!(names(&factory.path("printed")), ["rfid-SN1.png", "rfid-SN1.svg", "rfid-SN1.txt"]);
    for (kind, bytes) in ["txt", "svg", "png"].iter().zip(first) {
        assert_eq!(fs::read(factory.path(&format!("printed/rfid-SN1.{kind}"))).unwrap(), bytes);
    }
    assert!(ended.out.starts_with("rfid-SN1\nserial SN1\nSHA-256\n"), "{ended}");
    assert_snapshot!(factory.enrol("label --station line-1 --id rfid-SN2"), @r"
    status 1

    error: nothing was issued here for the id `rfid-SN2`
    ");
}

#[test]
fn the_code_on_a_label_has_the_certificates_fingerprint() {
    let factory = Factory::new();
    factory.enrol_with("station --station line-1 --out out", b"SN 1:2\n");
    factory.write("devices.csv", "serial,id\nSN 1:2,rfid-1\n");
    factory.enrol("batch --station line-1 --csv devices.csv --out out").ok();
    let openssl = Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(factory.path("out/rfid-1/pki/idevid.crt"))
        .output()
        .unwrap();
    let fingerprint = String::from_utf8(openssl.stdout).unwrap();
    let fingerprint =
        fingerprint.trim().rsplit_once('=').unwrap().1.replace(':', "").to_lowercase();

    let png = fs::read(factory.path("line-1/labels/rfid-1.png")).unwrap();
    assert_eq!(scanned(&png), format!("drover:1:rfid-1:SN 1:2:{fingerprint}"));
    let text = factory.read("line-1/labels/rfid-1.txt").replace([' ', '\n'], "");
    assert!(text.ends_with(&fingerprint), "{text}");
}

/// What a decoder that we did not write reads in a picture.
fn scanned(png: &[u8]) -> String {
    let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let row = reader.next_frame(&mut bytes).unwrap().line_size;
    let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| {
        (bytes[y * row + x / 8] >> (7 - x % 8) & 1) * u8::MAX
    });
    let grids = image.detect_grids();
    let [grid] = grids.as_slice() else { panic!("{} codes", grids.len()) };
    grid.decode().unwrap().1
}

#[test]
fn a_label_takes_the_place_of_a_link_and_of_the_label_of_an_earlier_certificate() {
    let factory = Factory::new();
    factory.write("devices.csv", "serial\nSN1\n");
    let batch = "batch --station line-1 --csv devices.csv --out out";
    factory.enrol(batch).ok();
    let good = factory.read("line-1/labels/rfid-SN1.txt");

    factory.write("line-1/labels/rfid-SN1.txt", "the label of the certificate before");
    factory.enrol(batch).ok();
    assert_eq!(factory.read("line-1/labels/rfid-SN1.txt"), good);

    factory.write("precious", "precious");
    for kind in ["txt", "svg", "png"] {
        let label = factory.path(&format!("line-1/labels/rfid-SN1.{kind}"));
        fs::remove_file(&label).unwrap();
        std::os::unix::fs::symlink(factory.path("precious"), &label).unwrap();
    }
    factory.enrol("label --station line-1 --id rfid-SN1").ok();
    assert_eq!(factory.read("precious"), "precious");
    assert_eq!(factory.read("line-1/labels/rfid-SN1.txt"), good);
}
