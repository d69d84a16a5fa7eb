//! Deletion: at once, in grace, or once the last finalizer is gone.

use std::sync::Arc;

use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Preconditions;
use serde_json::Value;
use store::{Entry, Op};

use super::{ATTEMPTS_MAX, Commit, Current, Shown, Writer, check::unmet};
use crate::{
    admission::{Operation, Options},
    cache::Object,
    error::{ApiError, Result, Subject},
    metadata::{self, Grace},
    options::DeleteOptions,
};

/// What a DELETE has come to.
#[derive(Debug)]
pub struct Deleted {
    pub shown: Shown,
    pub uid: String,
    /// The object is no longer there.
    pub gone: bool,
    /// It had been told to end before, and nothing has changed.
    pub pending: bool,
}

/// What is to be done in one attempt.
enum Plan {
    /// It is told already.
    Nothing,
    Put(Value),
    /// Put this first, then take it away.
    PutAndRemove(Value),
    Remove,
}

impl Writer<'_> {
    pub async fn delete(&mut self, options: &DeleteOptions) -> Result<Deleted> {
        let key = self.key(self.name);
        let mut current = self.read(&key).await?;
        let mut options = options.clone();
        let mut marked: Option<Current> = None;
        for _ in 0..ATTEMPTS_MAX {
            let Some(there) = current else {
                // Others who saw the mark may have been faster to take away what was to go at once.
                let Some(there) = marked else { return Err(ApiError::missing(self.subject())) };
                let object = self.world.cache.object(&there.entry)?;
                return self.deleted(self.shown(object).await?, &there, true, false);
            };
            self.check_preconditions(options.preconditions.as_ref(), &there)?;
            let plan = self.plan_delete(&options, &there.value)?;
            if !matches!(plan, Plan::Nothing) {
                self.admit_delete(&options, &there).await?;
            }
            let (step, last) = match plan {
                Plan::Nothing => {
                    let object = self.world.cache.object(&there.entry)?;
                    return self.deleted(self.shown(object).await?, &there, false, true);
                }
                Plan::Remove => (None, true),
                Plan::Put(value) => (Some(value), true),
                Plan::PutAndRemove(value) => (Some(value), options.dry_run()),
            };
            let Some(value) = step else {
                match self.remove_entry(&options, &there).await? {
                    Ok(revision) => {
                        let object = Object::new(&there.entry)?.at(revision.unwrap_or(there.entry.modified));
                        return self.deleted(self.shown(Arc::new(object)).await?, &there, true, false);
                    }
                    Err(now) => {
                        current = self.current(now).await?;
                        continue;
                    }
                }
            };
            if options.dry_run() {
                return self.deleted(Shown::Value(value), &there, false, false);
            }
            let bytes = self.encode(value).await?;
            match self.put_changed(&there.entry, bytes).await? {
                Ok(entry) if last => {
                    return self.deleted(self.shown(self.world.cache.object(&entry)?).await?, &there, false, false);
                }
                Ok(entry) => {
                    // The version that was asked for has been found and changed; the next step is about the new one.
                    if let Some(preconditions) = &mut options.preconditions {
                        preconditions.resource_version = None;
                    }
                    current = self.current(Some(entry)).await?;
                    marked.clone_from(&current);
                }
                Err(now) => current = self.current(now).await?,
            }
        }
        Err(ApiError::modified(self.subject()))
    }

    fn deleted(&self, shown: Shown, there: &Current, gone: bool, pending: bool) -> Result<Deleted> {
        Ok(Deleted { shown, uid: metadata::text(&there.value, "uid").to_owned(), gone, pending })
    }

    fn plan_delete(&self, options: &DeleteOptions, old: &Value) -> Result<Plan> {
        let (definition, now) = (&self.definition, self.world.now());
        let mut object = old.clone();
        let mut meta = metadata::read(&object)?;
        let begins = meta.deletion_timestamp.is_none()
            && definition.rules.begin_deletion(&mut object, now).map_err(ApiError::internal)?;
        if begins {
            // What the kind has marked may be in its metadata, too.
            meta = metadata::read(&object)?;
            metadata::begin_deleting(&mut meta, now);
            if let Some(finalizers) = metadata::garbage_finalizers(&meta, options, definition.orphans_by_default) {
                meta.finalizers = Some(finalizers);
            }
            metadata::write(&mut object, &meta)?;
            return Ok(Plan::Put(object));
        }
        if definition.rules.is_held(&object) {
            return Ok(Plan::Put(object));
        }
        let requested = options.grace_period_seconds;
        let grace = metadata::grant(&mut meta, requested, |asked| definition.rules.grace_seconds(&object, asked), now);
        if grace == Grace::Pending {
            return Ok(Plan::Nothing);
        }
        if let Some(finalizers) = metadata::garbage_finalizers(&meta, options, definition.orphans_by_default) {
            meta.finalizers = Some(finalizers);
        }
        let kept = meta.finalizers.as_ref().is_some_and(|f| !f.is_empty());
        if grace == Grace::Over && !kept {
            return Ok(Plan::Remove);
        }
        if grace == Grace::Over {
            metadata::mark_as_deleting(&mut meta, now);
        }
        metadata::write(&mut object, &meta)?;
        Ok(if grace == Grace::Seconds(0) && !kept { Plan::PutAndRemove(object) } else { Plan::Put(object) })
    }

    async fn admit_delete(&mut self, options: &DeleteOptions, there: &Current) -> Result<()> {
        let mut attributes = self.attributes(Operation::Delete, None, Some(there.value.clone()));
        attributes.options = Options::Delete(options.clone());
        attributes.dry_run = options.dry_run();
        let mut admitted = self.admission.admit(&mut attributes, self.world).await;
        if admitted.is_ok() {
            admitted = self.admission.validate(&mut attributes, self.world).await;
        }
        self.warnings.append(&mut attributes.warnings);
        admitted
    }

    fn check_preconditions(&self, preconditions: Option<&Preconditions>, there: &Current) -> Result<()> {
        let Some(wanted) = preconditions else { return Ok(()) };
        let on = Subject { resource: &self.definition.gvk.kind, ..self.subject() };
        let uid = metadata::text(&there.value, "uid");
        if matches!(&*self.definition.plural, "namespaces" | "customresourcedefinitions") {
            return self.check_before_finalizing(wanted, uid, there);
        }
        if let Some(wanted) = wanted.uid.as_deref().filter(|wanted| *wanted != uid) {
            return Err(ApiError::conflict(
                on,
                format!(
                    "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). \
                     The object might have been deleted and then recreated"
                ),
            ));
        }
        let version = there.entry.modified.to_string();
        if let Some(wanted) = wanted.resource_version.as_deref().filter(|wanted| *wanted != version) {
            return Err(ApiError::conflict(
                on,
                format!(
                    "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record \
                     ({version}). The object might have been modified"
                ),
            ));
        }
        Ok(())
    }

    /// The same for kinds whose first DELETE only marks them: upstream's storage of these looks itself, in other words.
    fn check_before_finalizing(&self, wanted: &Preconditions, uid: &str, there: &Current) -> Result<()> {
        let version = there.entry.modified.to_string();
        let facts = [("UID", &wanted.uid, uid), ("ResourceVersion", &wanted.resource_version, version.as_str())];
        for (what, wanted, found) in facts {
            if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != found) {
                return Err(ApiError::conflict(self.subject(), unmet(what, wanted, found)));
            }
        }
        Ok(())
    }

    /// The revision of the deletion; none in a dry run. The error is what is there instead.
    async fn remove_entry(
        &self,
        options: &DeleteOptions,
        there: &Current,
    ) -> Result<std::result::Result<Option<store::Revision>, Option<Entry>>> {
        if options.dry_run() {
            return Ok(Ok(None));
        }
        let change = self.allocation(Some(&there.value), None)?;
        let entry = &there.entry;
        Ok(match self.commit(&entry.key, entry.modified, Op::Delete { key: entry.key.clone() }, change).await? {
            Commit::Done(revision) => Ok(Some(revision)),
            Commit::Conflict(now) => Err(now),
        })
    }

    async fn put_changed(&self, entry: &Entry, bytes: Bytes) -> Result<std::result::Result<Entry, Option<Entry>>> {
        if bytes == entry.value {
            return Ok(Ok(entry.clone()));
        }
        Ok(match self.put(&entry.key, entry.modified, bytes.clone(), Default::default()).await? {
            Commit::Done(modified) => Ok(Entry { value: bytes, modified, ..entry.clone() }),
            Commit::Conflict(now) => Err(now),
        })
    }
}
