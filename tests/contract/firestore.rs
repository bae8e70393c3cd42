//! The Firestore adapter on Google's emulator: the contract, and what only documents can meet with.

use std::sync::Arc;

use tipoff::adapter::firestore::{Firestore, Settings};

use super::{emulator, store};

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_on_the_emulator() {
    let Some(emulator) = emulator::firestore() else { return };
    let connected =
        Firestore::connect(Settings { emulator: Some(emulator.address.clone()), ..Settings::new("contract") });
    store::contract(Arc::new(connected.await.unwrap())).await;
}
