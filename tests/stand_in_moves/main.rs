//! Row gathers and scatters on the stand-in driver: random programs by the kernel model, by batches of the
//! driver, and by single copies.
#![cfg(all(feature = "cuda-core", target_os = "linux", target_env = "gnu"))]

use proptest::test_runner::{Config, TestRunner};
use tidelock::{
    Error,
    cuda::{Batching, CopyKernels, Device},
};
use tidelock_test_support::stand_in::{self, Fault};

use tidelock_test_support::random_moves::{
    failing::attempt,
    programs::{Value, check, programs},
};
use tidelock_test_support::random_scatters;

fn runs_random_programs<T: Value>(cases: u32) {
    for (batching, cases) in [(Batching::Auto, cases), (Batching::Driver, cases / 4), (Batching::Loop, cases / 4)] {
        let control = stand_in::load();
        control.reset();
        let device = Device::open(0).unwrap().with_batching(batching);
        let copies_unchecked = matches!(device.copy_kernels(), CopyKernels::Loaded);
        assert_eq!(copies_unchecked, batching == Batching::Auto);
        let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        let answer = runner.run(&programs(), |program| {
            device.stream(|mut stream, _env| check::<T, _>(&mut stream, &program, copies_unchecked)).unwrap().unwrap();
            Ok(())
        });
        answer.unwrap();
        control.report().assert_clean();
    }
}

fn runs_random_scatters<T: Value>(cases: u32) {
    for (batching, cases) in [(Batching::Auto, cases), (Batching::Driver, cases / 4), (Batching::Loop, cases / 4)] {
        let control = stand_in::load();
        control.reset();
        let device = Device::open(0).unwrap().with_batching(batching);
        let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        let answer = runner.run(&random_scatters::cases(), |case| {
            // Without the copy kernels the device's numbers are those of the host.
            device.stream(|mut stream, _env| random_scatters::check::<T, _>(&mut stream, &case)).unwrap().unwrap();
            Ok(())
        });
        answer.unwrap();
        control.report().assert_clean();
    }
}

#[test]
fn random_scatters_of_bytes() {
    runs_random_scatters::<u8>(48);
}

#[test]
fn random_scatters_of_words() {
    runs_random_scatters::<u32>(48);
}

#[test]
fn random_scatters_of_odd_elements() {
    runs_random_scatters::<[u8; 3]>(48);
}

#[test]
fn random_programs_of_bytes() {
    runs_random_programs::<u8>(24);
}

#[test]
fn random_programs_of_words() {
    runs_random_programs::<u32>(24);
}

#[test]
fn random_programs_of_odd_elements() {
    runs_random_programs::<[u8; 3]>(24);
}

#[test]
fn random_programs_of_nothing() {
    runs_random_programs::<[u32; 0]>(20);
}

#[test]
fn every_call_may_fail() {
    for batching in [Batching::Auto, Batching::Driver, Batching::Loop] {
        let control = stand_in::load();
        control.set("delay", 0);
        control.reset();
        let device = Device::open(0).unwrap().with_batching(batching);
        let copies_unchecked = matches!(device.copy_kernels(), CopyKernels::Loaded);
        let mut failed = 0;
        for nth in 1.. {
            // A temporary error, once. What is freed then is freed all the same.
            let fault = Fault { name: "", nth, onwards: false, releases: true, code: 2 };
            let mut made = 0;
            let answer = device.stream(|mut stream, _env| {
                attempt(&mut stream, copies_unchecked, || control.fail(fault), || made = control.disarm())
            });
            match answer.unwrap() {
                Err(Error::Driver(error)) => assert_eq!(error.code.0, 2),
                Err(Error::OutOfMemory { .. }) => {}
                answer => assert_eq!(answer, Ok(())),
            }
            // With single copies there are as many calls as rows.
            if nth > made || (batching == Batching::Loop && nth > 12) {
                break;
            }
            failed += 1;
        }
        assert!(failed >= 5, "{failed}");
        control.report().assert_clean();
    }
}
