//! LimitRange (core/v1).

use std::collections::{BTreeSet, HashSet};

use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem};

use crate::{
    field::{self, Error, Errors, Path},
    kind::{About, Kind, Request},
    meta,
    quantity::Quantity,
    resource,
};

impl Kind for LimitRange {
    const ABOUT: About = About {
        short_names: &["limits"],
        names_itself: true,
        create_on_update: true,
        checks_changes: false,
        ..About::new("limitranges", "limitrange")
    };

    fn set_defaults(&mut self) {
        for item in self.spec.iter_mut().flat_map(|s| &mut s.limits) {
            default(item);
        }
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        validate(self, errors);
    }

    fn validate_update(&self, _old: &Self, _request: &Request, errors: &mut Errors) {
        meta::create_of(self, errors);
        validate(self, errors);
    }
}

fn default(item: &mut LimitRangeItem) {
    if item.type_ == "Container" {
        let limits = item.default.get_or_insert_default();
        for (name, amount) in item.max.iter().flatten() {
            limits.entry(name.clone()).or_insert_with(|| amount.clone());
        }
        let requests = item.default_request.get_or_insert_default();
        for (name, amount) in limits.iter().chain(item.min.iter().flatten()) {
            requests.entry(name.clone()).or_insert_with(|| amount.clone());
        }
    }
    resource::default(&mut item.max);
    resource::default(&mut item.min);
    resource::default(&mut item.default);
    resource::default(&mut item.default_request);
    resource::default(&mut item.max_limit_request_ratio);
}

fn validate(range: &LimitRange, errors: &mut Errors) {
    let items = range.spec.as_ref().map(|s| s.limits.as_slice()).unwrap_or_default();
    let path = Path::new("spec");
    let path = path.child("limits");
    let mut seen = HashSet::new();
    for (i, item) in items.iter().enumerate() {
        let path = path.index(i);
        kind_name(&item.type_, &path.child("type"), errors);
        if !seen.insert(item.type_.as_str()) {
            errors.push(Error::duplicate(path.child("type"), item.type_.as_str()));
        }
        validate_item(item, &path, errors);
    }
}

fn kind_name(name: &str, path: &Path, errors: &mut Errors) {
    let wrong = field::qualified_name(name);
    if !wrong.is_empty() {
        field::extend(errors, *path, name, wrong);
    } else if !name.contains('/') && !["Pod", "Container", "PersistentVolumeClaim"].contains(&name) {
        errors.push(Error::invalid(*path, name, "must be a standard limit type or fully qualified"));
    }
}

fn validate_item(item: &LimitRangeItem, path: &Path, errors: &mut Errors) {
    let is_pod = item.type_ == "Pod";
    let list = |field: &str, list, errors: &mut Errors| {
        let amounts = resource::amounts(list);
        let path = path.child(field);
        if is_pod && field.starts_with("default") {
            if !amounts.is_empty() {
                errors.push(Error::forbidden(path, "may not be specified when `type` is 'Pod'"));
            }
            return resource::Amounts::new();
        }
        for name in amounts.keys() {
            if is_pod || item.type_ == "Container" {
                resource::validate_container_name(name, &path.key(name), errors);
            } else {
                resource::validate_name(name, &path.key(name), errors);
            }
        }
        amounts
    };
    let max = list("max", item.max.as_ref(), errors);
    let min = list("min", item.min.as_ref(), errors);
    let limits = list("default", item.default.as_ref(), errors);
    let requests = list("defaultRequest", item.default_request.as_ref(), errors);
    let storage = resource::STORAGE;
    if item.type_ == "PersistentVolumeClaim" && !min.contains_key(storage) && !max.contains_key(storage) {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(Error::required(path.child("limits"), why));
    }
    let ratios = list("maxLimitRequestRatio", item.max_limit_request_ratio.as_ref(), errors);
    let names: BTreeSet<&String> =
        [&max, &min, &limits, &requests, &ratios].into_iter().flat_map(|l| l.keys()).collect();
    for name in names {
        let amount = |list: &resource::Amounts| list.get(name).copied();
        let amounts = ItemAmounts {
            name,
            min: amount(&min),
            max: amount(&max),
            limit: amount(&limits),
            request: amount(&requests),
            ratio: amount(&ratios),
        };
        amounts.validate(path, errors);
    }
}

/// What an item says of one resource.
struct ItemAmounts<'a> {
    name: &'a str,
    min: Option<Quantity>,
    max: Option<Quantity>,
    limit: Option<Quantity>,
    request: Option<Quantity>,
    ratio: Option<Quantity>,
}

impl ItemAmounts<'_> {
    fn validate(&self, path: &Path, errors: &mut Errors) {
        let mut wrong = |field: &str, shown: Quantity, why: String| {
            errors.push(Error::invalid(path.child(field).key(self.name), shown.to_string(), why));
        };
        if let (Some(min), Some(max)) = (self.min, self.max)
            && min > max
        {
            wrong("min", min, format!("min value {min} is greater than max value {max}"));
        }
        if let (Some(request), Some(min)) = (self.request, self.min)
            && min > request
        {
            wrong(
                "defaultRequest",
                request,
                format!("min value {min} is greater than default request value {request}"),
            );
        }
        if let (Some(request), Some(max)) = (self.request, self.max)
            && request > max
        {
            wrong(
                "defaultRequest",
                request,
                format!("default request value {request} is greater than max value {max}"),
            );
        }
        if let (Some(request), Some(limit)) = (self.request, self.limit)
            && request > limit
        {
            let why = format!("default request value {request} is greater than default limit value {limit}");
            wrong("defaultRequest", request, why);
        }
        if let (Some(limit), Some(min)) = (self.limit, self.min)
            && min > limit
        {
            wrong("default", min, format!("min value {min} is greater than default value {limit}"));
        }
        if let (Some(limit), Some(max)) = (self.limit, self.max)
            && limit > max
        {
            wrong("default", max, format!("default value {limit} is greater than max value {max}"));
        }
        if let Some(ratio) = self.ratio.filter(|ratio| *ratio < Quantity::from_units(1)) {
            wrong("maxLimitRequestRatio", ratio, format!("ratio {ratio} is less than 1"));
        }
        if let (Some(ratio), Some(min), Some(max)) = (self.ratio, self.min, self.max) {
            let largest = max.nanos() as f64 / min.nanos() as f64;
            if ratio.nanos() as f64 / 1e9 > largest {
                let why = format!("ratio {ratio} is greater than max/min = {largest:.6}");
                wrong("maxLimitRequestRatio", ratio, why);
            }
        }
        if let (Some(limit), Some(request)) = (self.limit, self.request)
            && limit != request
            && !resource::is_overcommit_allowed(self.name)
        {
            let name = self.name;
            let why = format!("default value {limit} must equal to defaultRequest value {request} in {name}");
            wrong("defaultRequest", request, why);
        }
    }
}
