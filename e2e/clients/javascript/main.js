// The stock JavaScript client against the API server of $KUBECONFIG: each step says what it did; the first that fails ends it.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import * as k8s from '@kubernetes/client-node';

const namespace = 'javascript';
const patience = 60_000;
const group = 'kites.example.com';

const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const apps = config.makeApiClient(k8s.AppsV1Api);
const anything = k8s.KubernetesObjectApi.makeApiClient(config);

const within = (what, promise) =>
  Promise.race([promise, once(AbortSignal.timeout(patience), 'abort').then(() => assert.fail(`${what}: not within ${patience} ms`))]);

async function eventually(what, done) {
  const end = Date.now() + patience;
  while (!(await done())) {
    assert.ok(Date.now() < end, what);
    await new Promise((next) => setTimeout(next, 50));
  }
}

const refused = (code, reason, promise) =>
  assert.rejects(promise, (error) => error.code === code && JSON.parse(typeof error.body === 'string' ? error.body : JSON.stringify(error.body)).reason === reason);

const configMap = (name, data, labels = {}) => ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace, labels }, data });

async function typed() {
  const made = await core.createNamespacedConfigMap({ namespace, body: configMap('one', { a: '1' }, { typed: 'yes' }) });
  assert.ok(made.metadata.uid && made.metadata.creationTimestamp instanceof Date);
  await refused(409, 'AlreadyExists', core.createNamespacedConfigMap({ namespace, body: configMap('one', {}) }));
  await refused(404, 'NotFound', core.readNamespacedConfigMap({ namespace, name: 'none' }));
  await refused(422, 'Invalid', core.createNamespacedConfigMap({ namespace, body: configMap('A B', {}) }));
  const replaced = await core.replaceNamespacedConfigMap({ namespace, name: 'one', body: { ...made, data: { a: '2' } } });
  assert.deepEqual(replaced.data, { a: '2' });
  await refused(409, 'Conflict', core.replaceNamespacedConfigMap({ namespace, name: 'one', body: { ...made, data: { a: '3' } } }));
  const list = await core.listNamespacedConfigMap({ namespace, labelSelector: 'typed=yes' });
  assert.deepEqual(list.items.map((item) => item.data), [{ a: '2' }]);
  const page = await core.listNamespacedConfigMap({ namespace, limit: 1 });
  const rest = await core.listNamespacedConfigMap({ namespace, _continue: page.metadata._continue });
  assert.equal(page.items.length + rest.items.length, 2);
  const labels = { app: 'web' };
  const spec = { replicas: 1, selector: { matchLabels: labels }, template: { metadata: { labels }, spec: { containers: [{ name: 'web', image: 'web:1' }] } } };
  const deployment = await apps.createNamespacedDeployment({ namespace, body: { metadata: { name: 'web' }, spec } });
  assert.equal(deployment.spec.strategy.rollingUpdate.maxSurge, '25%');
  // Without its version: the controller writes the status meanwhile.
  const scale = await apps.readNamespacedDeploymentScale({ namespace, name: 'web' });
  await apps.replaceNamespacedDeploymentScale({ namespace, name: 'web', body: { ...scale, metadata: { name: 'web', namespace }, spec: { replicas: 2 } } });
  await eventually('two pods', async () => (await core.listNamespacedPod({ namespace, labelSelector: 'app=web' })).items.length === 2);
}

async function patches() {
  const patch = (body, strategy, more = {}) =>
    core.patchNamespacedConfigMap({ namespace, name: 'one', body, ...more }, k8s.setHeaderOptions('Content-Type', strategy));
  assert.deepEqual((await patch([{ op: 'add', path: '/data/b', value: '3' }], k8s.PatchStrategy.JsonPatch)).data, { a: '2', b: '3' });
  assert.deepEqual((await patch({ data: { a: null } }, k8s.PatchStrategy.MergePatch)).data, { b: '3' });
  assert.deepEqual((await patch({ data: { c: '4' } }, k8s.PatchStrategy.StrategicMergePatch)).data, { b: '3', c: '4' });
  const applied = await patch(configMap('one', { d: '5' }), k8s.PatchStrategy.ServerSideApply, { fieldManager: 'javascript' });
  assert.deepEqual(applied.data, { b: '3', c: '4', d: '5' });
  await refused(409, 'Conflict', patch(configMap('one', { b: '6' }), k8s.PatchStrategy.ServerSideApply, { fieldManager: 'other' }));
}

async function generic() {
  const made = await anything.create(configMap('generic', { a: '1' }));
  const read = await anything.read(made);
  assert.equal(read.metadata.uid, made.metadata.uid);
  read.data.a = '2';
  assert.deepEqual((await anything.replace(read)).data, { a: '2' });
  const merged = await anything.patch(configMap('generic', { b: '3' }), undefined, undefined, undefined, undefined, k8s.PatchStrategy.MergePatch);
  assert.deepEqual(merged.data, { a: '2', b: '3' });
  const apply = (data, manager, force) =>
    anything.patch(configMap('generic', data), undefined, undefined, manager, force, k8s.PatchStrategy.ServerSideApply);
  assert.deepEqual((await apply({ c: '4' }, 'mine', false)).data, { a: '2', b: '3', c: '4' });
  await refused(409, 'Conflict', apply({ c: '5' }, 'other', false));
  assert.equal((await apply({ c: '5' }, 'other', true)).data.c, '5');
  assert.ok((await anything.list('v1', 'ConfigMap', namespace)).items.some((item) => item.metadata.name === 'generic'));
  await anything.delete(made);
  await refused(404, 'NotFound', anything.read(made));
}

async function customs() {
  const schema = { openAPIV3Schema: { type: 'object', properties: { spec: { type: 'object', properties: { tails: { type: 'integer', minimum: 1, _default: 3 } } } } } };
  const definition = { apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition', metadata: { name: `kites.${group}` },
    spec: { group, scope: 'Namespaced', names: { kind: 'Kite', plural: 'kites' }, versions: [{ name: 'v1', served: true, storage: true, schema }] } };
  await anything.create(definition);
  await eventually('the definition is established', async () =>
    (await anything.read(definition)).status?.conditions?.some((one) => one.type === 'Established' && one.status === 'True'));
  const kite = { apiVersion: `${group}/v1`, kind: 'Kite', metadata: { name: 'red', namespace }, spec: {} };
  assert.equal((await anything.create(kite)).spec.tails, 3);
  await refused(422, 'Invalid', anything.create({ ...kite, metadata: { name: 'bare', namespace }, spec: { tails: 0 } }));
  const customs = config.makeApiClient(k8s.CustomObjectsApi);
  const place = { group, version: 'v1', namespace, plural: 'kites' };
  assert.equal((await customs.listNamespacedCustomObject(place)).items.length, 1);
  const patched = await customs.patchNamespacedCustomObject({ ...place, name: 'red', body: { spec: { tails: 5 } } },
    k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch));
  assert.equal(patched.spec.tails, 5);
  await anything.delete(definition);
}

async function watches() {
  const told = [];
  let end;
  const done = new Promise((resolve) => { end = resolve; });
  const { metadata } = await core.listNamespacedSecret({ namespace });
  const request = await new k8s.Watch(config).watch(`/api/v1/namespaces/${namespace}/secrets`, { resourceVersion: metadata.resourceVersion },
    (type, object) => { told.push(`${type} ${object.metadata.name}`); if (type === 'DELETED') end(); }, () => {});
  const secret = await core.createNamespacedSecret({ namespace, body: { metadata: { name: 'seen' }, stringData: { a: '1' } } });
  await core.replaceNamespacedSecret({ namespace, name: 'seen', body: { ...secret, stringData: { a: '2' } } });
  await core.deleteNamespacedSecret({ namespace, name: 'seen' });
  await within('a watch', done);
  request.abort();
  assert.deepEqual(told, ['ADDED seen', 'MODIFIED seen', 'DELETED seen']);
}

async function informer() {
  const path = `/api/v1/namespaces/${namespace}/configmaps`;
  const informer = k8s.makeInformer(config, path, () => core.listNamespacedConfigMap({ namespace, labelSelector: 'informed' }), 'informed');
  const told = [];
  let check = () => {};
  for (const verb of ['add', 'update', 'delete']) {
    informer.on(verb, (object) => { told.push(`${verb} ${object.metadata.name}`); check(); });
  }
  const sees = (...lines) => within(`the informer sees ${lines}, saw ${told}`, new Promise((resolve) => {
    check = () => { if (lines.every((line) => told.includes(line))) resolve(); };
    check();
  }));
  await core.createNamespacedConfigMap({ namespace, body: configMap('old', { a: '1' }, { informed: 'yes' }) });
  await informer.start();
  await sees('add old');
  const made = await core.createNamespacedConfigMap({ namespace, body: configMap('new', { a: '1' }, { informed: 'yes' }) });
  await sees('add new');
  await core.replaceNamespacedConfigMap({ namespace, name: 'new', body: { ...made, data: { a: '2' } } });
  await core.deleteNamespacedConfigMap({ namespace, name: 'old' });
  await sees('update new', 'delete old');
  assert.deepEqual(informer.list().map((item) => item.metadata.name), ['new']);
  await informer.stop();
}

await core.createNamespace({ body: { metadata: { name: namespace } } });
await eventually('the default account', async () => (await core.listNamespacedServiceAccount({ namespace })).items.some((one) => one.metadata.name === 'default'));
await eventually("the authority's ConfigMap", async () => (await core.listNamespacedConfigMap({ namespace })).items.length > 0);
const steps = { 'typed clients: every verb, pages, scale': typed, 'patches of four types': patches, 'objects of any kind: every verb, apply': generic,
  'custom resources: defaults, validation, patch': customs, 'a watch': watches, 'an informer': informer };
for (const [name, run] of Object.entries(steps)) {
  try {
    await run();
  } catch (error) {
    console.error(`FAIL ${name}:`, error);
    process.exit(1);
  }
  console.log(`ok   ${name}`);
}
await core.deleteNamespace({ name: namespace });
process.exit(0);
