//! Fuzz tests of the layouts with mutated records of real programs.

use std::cell::Cell;

use super::{all, at};
use crate::instance_json;
use crate::layout::*;
use crate::model::{MAX_ATTRIBUTES, MAX_NAME};
use crate::mutate::{Seed, mutated, seeds};
use crate::prove;
use crate::scalingo::Host;

/// Number of records for each layout in a default run.
const RECORDS: u32 = 3000;

/// Checks that a record is decoded as a valid instance, ignored, or malformed with a reason, and that a registration
/// written over it is read back unchanged. Returns a bit for the result.
fn check_record(layout: &dyn Layout, (place, value): &Seed) -> std::result::Result<u8, String> {
    let web = ServiceName::new("web").map_err(|e| e.to_string())?;
    let Ok(key) = Key::new(place) else {
        return Ok(0);
    };
    let node = Node {
        key,
        value: value.as_slice().into(),
        created: 7,
        modified: 7,
        owner: 0,
    };
    let _ = layout.decode_shared(Some(value));
    let mine = at("web", "h:1").attributes([("version", "2")]).unwrap();
    if layout.name() != "registrator" {
        check_merge(layout, &mine, value)?;
    }
    match layout.decode(&web, &node) {
        Decoded::Ignored => Ok(1),
        Decoded::Malformed(why) if why.is_empty() => {
            Err("a malformed record without a reason".to_owned())
        }
        Decoded::Malformed(_) => Ok(2),
        Decoded::Instance(instance) => check_instance(&web, &instance).map(|()| 4),
    }
}

fn check_instance(web: &ServiceName, instance: &Instance) -> std::result::Result<(), String> {
    let long = instance.id().len() > MAX_NAME + crate::kv::MAX_KEY_BYTES;
    if instance.port() == 0 || instance.id().is_empty() || long {
        return Err(format!("invalid instance: {instance:?}"));
    }
    check_host(instance.host()).map_err(|e| e.to_string())?;
    if instance.attributes().len() > MAX_ATTRIBUTES {
        return Err(format!("{} attributes", instance.attributes().len()));
    }
    // The encoding of the agent and the cache, and the view as a host. No set contains an instance with a NUL character.
    if !instance.contains_nul()
        && instance_json::decode(web, &instance_json::encode(instance)).as_ref() != Some(instance)
    {
        return Err(format!("changed by encoding: {instance:?}"));
    }
    let _ = Host::from_instance(instance).url("", "/");
    Ok(())
}

fn check_merge(
    layout: &dyn Layout,
    mine: &Registration,
    before: &[u8],
) -> std::result::Result<(), String> {
    let prefix = layout.prefix(&mine.service).map_err(|e| e.to_string())?;
    for entry in layout.encode(mine).map_err(|e| e.to_string())? {
        let written = layout.merge_existing(&entry, before, OnConflict::Replace);
        if entry.key.strip_prefix(&prefix).is_none() {
            continue;
        }
        let node = Node {
            key: entry.key,
            value: written.ok_or("the record is not written")?.into(),
            created: 7,
            modified: 7,
            owner: 0,
        };
        let read = layout.decode(&mine.service, &node);
        if read != Decoded::Instance(mine.instance(7)) {
            let text = String::from_utf8_lossy(&node.value).into_owned();
            return Err(format!("the merged record is decoded as {read:?}: {text}"));
        }
    }
    Ok(())
}

#[test]
fn records_changed_in_every_way() {
    for layout in all() {
        let seeds = seeds(layout.name());
        for seed in seeds.iter().filter(|(place, _)| !place.contains("infos")) {
            assert_eq!(
                check_record(&*layout, seed),
                Ok(4),
                "an invalid seed: {seed:?}"
            );
        }
        let results = Cell::new(0);
        prove::check_property(file!(), RECORDS, mutated(seeds), |seed| {
            results.set(results.get() | check_record(&*layout, &seed)?);
            Ok(())
        });
        // All three results occurred, so the mutations are neither too weak nor too strong.
        assert_eq!(results.get(), 7, "{}", layout.name());
    }
}

/// A registration overwrites any shared description with its own credentials.
#[test]
fn descriptions_changed_in_every_way() {
    let layout = Scalingo::new(Scalingo::PREFIX, Scalingo::INFOS).unwrap();
    let fields = [("public", "true"), ("user", "u"), ("password", "p")];
    let host = at("web", "h:1").attributes(fields).unwrap();
    let entry = layout.encode(&host).unwrap().remove(0);
    let expected = layout.decode_shared(Some(&entry.value));
    prove::check_property(
        file!(),
        RECORDS,
        mutated(seeds("scalingo")),
        |(_, before)| {
            let written = layout.merge_existing(&entry, &before, OnConflict::Replace);
            let now = layout.decode_shared(Some(written.as_deref().unwrap_or(&before)));
            match now == expected {
                true => Ok(()),
                false => Err(format!("the shared attributes are {now:?}")),
            }
        },
    );
}
